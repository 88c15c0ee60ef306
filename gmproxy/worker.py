"""One serving process: makes the whole of listeners, sessions, router and backends from a Config, and ends it in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import gc  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy.accel import BUILD, pick  # noqa: E402
from gmproxy.conf import placement_for  # noqa: E402
from gmproxy.listener import Listener  # noqa: E402
from gmproxy.service import Service  # noqa: E402

new_backend = pick("backend").Backend
new_router = pick("router").Router

#: Backends are looked after so many times in the shortest timeout: a late answer is noticed at most this part too late.
TICKS_PER_TIMEOUT = 10
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.1  # seconds

#: Objects that live as long as a request are freed by their counts; the collector, which looks for cycles, finds next to none.
GC_THRESHOLDS = (100_000, 50, 50)

log = logging.getLogger("gmproxy")


class Worker:
    """Serves `config` on the listening sockets `bound`."""

    def __init__(self, config, bound):
        self.config = config
        self.router = new_router(config)
        self.service = Service(config, self.router)
        self._listeners = [Listener(self.service, sock) for sock in bound]
        self._ending = Event()
        self._ticker = None
        self._place()

    def _place(self):
        config = self.config
        backed = bool(config.backup)
        backends = [new_backend(server, config, self.router, log, backed) for server in config.server]
        backups = [new_backend(server, config, self.router, log, False) for server in config.backup]
        self.router.serve(
            backends, placement_for(config, config.server).locator,
            backups, placement_for(config, config.backup).locator if backups else None,
        )

    def run(self, ready=lambda: None):
        """Serve until SIGTERM or SIGINT, calling `ready` once clients are accepted; then end within `grace`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._ending.set)
        for listener in self._listeners:
            listener.start()
        self._ticker = gevent.spawn(self._tick)
        if self.config.preconnect:
            for backend in self._everyone():
                backend.preconnect()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        log.info("serving build=%s servers=%d backups=%d", BUILD, len(self.router.backends), len(self.router.backups))
        ready()
        self._ending.wait()
        self._end()

    def _everyone(self):
        return self.router.backends + self.router.backups

    def _tick(self):
        loop = gevent.get_hub().loop
        interval = min(max(self.config.timeout / TICKS_PER_TIMEOUT, SHORTEST_TICK), LONGEST_TICK)
        while True:
            gevent.sleep(interval)
            for backend in self._everyone():
                backend.tick(loop.now())

    def _end(self):
        """Accept nobody, let every client have the answers it waits for, leave."""
        log.info("ending clients=%d", len(self.service.sessions))
        for listener in self._listeners:
            listener.stop()
        for session in list(self.service.sessions):
            session.leave()
        with gevent.Timeout(self.config.grace, False):
            while self.service.sessions:
                gevent.sleep(0.01)
        self._ticker.kill()
        for backend in self._everyone():
            backend.close()


def serve(config, bound, ready=lambda: None):
    """Serve `config` on the sockets `bound` until told to end."""
    Worker(config, bound).run(ready)

"""One serving process: makes the pools from their Configs, looks after them, changes them at a reload, and ends them in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import gc  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy import daemon, stats  # noqa: E402
from gmproxy.accel import BUILD  # noqa: E402
from gmproxy.listener import Listener  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402

#: Backends are looked after so many times in the shortest timeout: a late answer is noticed at most this part too late.
TICKS_PER_TIMEOUT = 20
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.05  # seconds

#: Objects that live as long as a request are freed by their counts; the collector, which looks for cycles, finds next to none.
GC_THRESHOLDS = (100_000, 50, 50)

log = logging.getLogger("gmproxy")


class Worker:
    """
    share         this process's part of the service
    set_up_logs   set_up_logs(config) opens the log anew, as `config` says
    pools         {name: Pool}
    """

    def __init__(self, share, set_up_logs):
        self.share = share
        self.set_up_logs = set_up_logs
        self.pools = {}
        self._configs = []
        self._listeners = {}  # place -> Listener
        self._leaving = []    # pools that were taken out and still have clients
        self._ticker = None
        self._ending = Event()
        self._softly = False

    def serve(self, configs, places, new):
        """Serve the pools `configs` from now on, each at its `places`, {name: list}. `new`: {place: listening socket} that are to be
        used from now on and become ours. Called again at a reload: what stays is not disturbed."""
        self._configs = configs
        self._make_room(configs)
        self._listeners.update({place: Listener(sock, self.share) for place, sock in new.items()})
        gone, self.pools = self.pools, {}
        for config in configs:
            pool = gone.pop(config.name, None)
            if pool is None:
                pool = Pool(config, self.share)
            else:
                pool.reload(config)
            self.pools[config.name] = pool
        for name in places:
            for place in places[name]:
                self._listeners[place].serve(self.pools[name].service)
        for place in set(self._listeners) - {place for name in places for place in places[name]}:
            self._listeners.pop(place).stop()
        for pool in gone.values():
            pool.leave(softly=True)
            self._leaving.append(pool)
        self._tick_every(min(config.timeout for config in configs) / TICKS_PER_TIMEOUT)

    def _make_room(self, configs):
        limit, wanted, room = daemon.make_room(configs)
        self.share.room = room * self.share.workers
        if limit < wanted:
            log.warning("limit of open files is low limit=%d wanted=%d", limit, wanted)

    def _tick_every(self, interval):
        if self._ticker is not None:
            self._ticker.close()
        interval = min(max(interval, SHORTEST_TICK), LONGEST_TICK)
        self._ticker = gevent.get_hub().loop.timer(interval, interval)
        self._ticker.start(self._tick)

    def _tick(self):
        """In the loop's callback, not in a greenlet: what fails here wakes clients, and they do not come back to a greenlet."""
        now = gevent.get_hub().loop.now()
        for pool in [*self.pools.values(), *self._leaving]:
            pool.tick(now)
        for pool in self._leaving[:]:
            pool.leave(softly=True)  # also who was just being let in when it was taken out
            if not pool.clients():
                self._leaving.remove(pool)
                pool.close()

    # -- orders and questions

    def command(self, name, arguments):
        """Do what the service is told, or answer what it is asked: this process's part, as a dict. Raises LookupError, StartError."""
        if name == "ping":
            return {"pid": os.getpid()}
        if name == "reopen":
            self.set_up_logs(self._configs[0])
            return {}
        if name not in ("stats", "reset"):
            raise LookupError(f"there is no command {name!r}")
        wanted = arguments[0] if arguments else next(iter(self.pools))
        if wanted not in self.pools:
            raise LookupError(f"there is no pool {wanted!r}")
        service = self.pools[wanted].service
        if name == "stats":
            return stats.snapshot(service)
        service.reset_counters()
        return {}

    # -- the end

    def run(self, ready):
        """Serve until `end` is called; `ready` is called first, when clients are accepted."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        backends = sum(len(pool.backends) for pool in self.pools.values())
        log.info("serving build=%s pools=%d backends=%d", BUILD, len(self.pools), backends)
        ready()
        self._ending.wait()
        self._finish()

    def end(self, softly=False):
        """Have `run` return: at once if nobody waits for an answer, and within the grace. `softly`: clients leave after the next answer
        if that comes within the grace; only then is the rest asked to leave."""
        self._softly = softly
        self._ending.set()

    def _finish(self):
        log.info("ending clients=%d", self._clients())
        for listener in self._listeners.values():
            listener.stop()
        if self._softly:
            self._see_off(softly=True)
        self._see_off(softly=False)
        for pool in [*self.pools.values(), *self._leaving]:
            pool.close()
        self._ticker.close()

    def _see_off(self, softly):
        with gevent.Timeout(self._configs[0].grace, False):
            gevent.sleep(0)  # whose connection was accepted a moment ago is not known yet
            while self._clients():
                for pool in [*self.pools.values(), *self._leaving]:
                    pool.leave(softly)
                gevent.sleep(SHORTEST_TICK)

    def _clients(self):
        return sum(pool.clients() for pool in [*self.pools.values(), *self._leaving])

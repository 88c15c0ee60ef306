"""One serving process: makes the pools from their Configs, looks after them, and ends them in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import gc  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy.accel import BUILD  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402

#: Backends are looked after so many times in the shortest timeout: a late answer is noticed at most this part too late.
TICKS_PER_TIMEOUT = 20
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.05  # seconds

#: Objects that live as long as a request are freed by their counts; the collector, which looks for cycles, finds next to none.
GC_THRESHOLDS = (100_000, 50, 50)

log = logging.getLogger("gmproxy")


class Worker:
    """Serves `configs`, each on its list of listening sockets in `bound`."""

    def __init__(self, configs, bound, max_clients):
        self.pools = [Pool(config, sockets, log, max_clients) for config, sockets in zip(configs, bound)]
        self._interval = min(config.timeout for config in configs) / TICKS_PER_TIMEOUT
        self._grace = configs[0].grace
        self._ending = Event()

    def run(self, ready):
        """Serve until SIGTERM or SIGINT, calling `ready` once clients are accepted; then end within `grace`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._ending.set)
        for pool in self.pools:
            pool.start()
        interval = min(max(self._interval, SHORTEST_TICK), LONGEST_TICK)
        ticker = gevent.get_hub().loop.timer(interval, interval)
        ticker.start(self._tick)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        log.info("serving build=%s pools=%d backends=%d", BUILD, len(self.pools), sum(len(pool.backends) for pool in self.pools))
        ready()
        self._ending.wait()
        self._end()
        ticker.close()

    def _tick(self):
        """In the loop's callback, not in a greenlet: what fails here wakes clients, and they do not come back to a greenlet."""
        now = gevent.get_hub().loop.now()
        for pool in self.pools:
            pool.tick(now)

    def _end(self):
        log.info("ending clients=%d", self._clients())
        for pool in self.pools:
            pool.leave()
        with gevent.Timeout(self._grace, False):
            while self._clients():
                gevent.sleep(SHORTEST_TICK)
        for pool in self.pools:
            pool.close()

    def _clients(self):
        return sum(pool.clients() for pool in self.pools)


def serve(configs, bound, max_clients, ready):
    """Serve until told to end. `max_clients` is for pools that set no bound themselves."""
    Worker(configs, bound, max_clients).run(ready)

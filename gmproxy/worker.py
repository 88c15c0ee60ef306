"""One serving process: makes the pools from their Configs, looks after them, changes them at a reload, and ends them in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import functools  # noqa: E402
import gc  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy import daemon, internal_errors, operations, sockets  # noqa: E402
from gmproxy.accel import BUILD  # noqa: E402
from gmproxy.errors import OVERLOAD  # noqa: E402
from gmproxy.heap import keep_freed_memory  # noqa: E402
from gmproxy.listener import Listener  # noqa: E402
from gmproxy.measures import Lag, Slow  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402

#: Backends are looked after so many times in the shortest timeout: a late answer is noticed at most this part too late.
TICKS_PER_TIMEOUT = 20
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.05  # seconds

#: Seconds between two looks at what is to be logged in sum.
SUM_UP_EVERY = 1.0

#: Objects that live as long as a request are freed by their counts; the collector, which looks for cycles, finds next to none.
GC_THRESHOLDS = (100_000, 50, 50)

log = logging.getLogger("gmproxy")


class Worker:
    """
    share         this process's part of the service
    set_up_logs   set_up_logs(config) opens the log anew, as `config` says
    pools         {name: Pool}
    slow          the latest slow requests, while somebody measures (gmproxy.measures.Slow)
    lag           how late the loop is (gmproxy.measures.Lag)
    draining      True once nobody is let in any more, and clients are let go
    """

    def __init__(self, share, set_up_logs):
        self.share = share
        self.set_up_logs = set_up_logs
        self.pools = {}
        self._configs = []
        self._listeners = {}  # place -> Listener
        self._admin = None    # who serves metrics and the like (gmproxy.admin.Admin)
        self._leaving = []    # pools that were taken out and still have clients
        self.slow = Slow(time.time)
        self.lag = Lag()
        self.draining = False
        self._measuring = False
        share.report = functools.partial(self.command, "report", [])
        self._sum_up_at = 0.0
        self._overloaded = {}  # backend -> requests that were refused for it when we last looked
        self._ticker = None
        self._interval = LONGEST_TICK
        self._ending = Event()
        self._softly = False

    def serve(self, configs, places, new):
        """Serve the pools `configs` from now on, each at its `places`, {name: list}. `new`: {place: listening socket} that are to be
        used from now on and become ours. Called again at a reload: what stays is not disturbed."""
        self._configs = configs
        self.draining = False
        self._make_room(configs)
        self._serve_admin(configs[0], new)
        self._listeners.update({place: Listener(sock, self.share) for place, sock in new.items()})
        gone, self.pools = self.pools, {}
        for config in configs:
            pool = gone.pop(config.name, None)
            if pool is None:
                pool = Pool(config, self.share)
            else:
                pool.reload(config)
            self.pools[config.name] = pool
        if self._measuring or configs[0].admin:
            self.measure()
        for name in places:
            for place in places[name]:
                self._listeners[place].serve(self.pools[name].service)
        for place in set(self._listeners) - {place for name in places for place in places[name]}:
            self._listeners.pop(place).stop()
        for pool in gone.values():
            pool.leave(softly=True)
            self._leaving.append(pool)
        self._tick_every(min(config.timeout for config in configs) / TICKS_PER_TIMEOUT)

    def _serve_admin(self, config, new):
        """Take the sockets for metrics and the like out of `new`: the first worker serves them, for all."""
        given = {place: new.pop(place) for place in sockets.for_admin(config) if place in new}
        if self.share.number:
            for sock in given.values():
                sock.close()
            return
        if given and self._admin is None:
            from gmproxy.admin import Admin  # only where it is wanted: it needs more memory than the rest of us
            self._admin = Admin(self)
        if self._admin is not None:
            self._admin.serve(config, given)

    def _make_room(self, configs):
        limit, wanted, room = daemon.make_room(configs)
        self.share.room = room * self.share.workers
        if limit < wanted:
            log.warning("limit of open files is low limit=%d wanted=%d", limit, wanted)

    def _tick_every(self, interval):
        if self._ticker is not None:
            self._ticker.close()
        self._interval = interval = min(max(interval, SHORTEST_TICK), LONGEST_TICK)
        self._ticker = gevent.get_hub().loop.timer(interval, interval)
        self._ticker.start(self._tick)

    def _tick(self):
        """In the loop's callback, not in a greenlet: what fails here wakes clients, and they do not come back to a greenlet."""
        now = self.now()
        self.lag.tick(now, self._interval)
        for pool in [*self.pools.values(), *self._leaving]:
            try:
                pool.tick(now)
            except Exception:
                internal_errors.record("pool.tick")
        try:
            if now >= self._sum_up_at:
                self._sum_up_at = now + SUM_UP_EVERY
                self._sum_up()
            self._close_left_pools()
        except Exception:
            internal_errors.record("worker.tick")

    def _close_left_pools(self):
        for pool in self._leaving[:]:
            pool.leave(softly=True)  # also who was just being let in when it was taken out
            if not pool.clients():
                self._leaving.remove(pool)
                pool.close()

    def _sum_up(self):
        """Log what would be too much to be logged for each request."""
        for count, slowest in self.slow.untold():
            log.warning("slow requests server=%s requests=%d slowest=%.0fms command=%s key=%r", slowest["backend"], count,
                        slowest["seconds"] * 1000, slowest["command"], slowest["key"])
        refused = {backend: backend.errors[OVERLOAD] for pool in self.pools.values() for backend in pool.backends}
        for backend, count in refused.items():
            if count > self._overloaded.get(backend, 0):
                backend.log.warning("backend overloaded server=%s requests=%d", backend.label, count - self._overloaded.get(backend, 0))
        self._overloaded = refused

    # -- orders and questions

    def command(self, name, arguments):
        """Do what the service is told, or answer what it is asked: this process's part, as a dict. Raises LookupError, StartError."""
        if name == "reopen":
            self.set_up_logs(self._configs[0])
            return {}
        if name not in operations.ORDERS:
            raise LookupError(f"there is no command {name!r}")
        return operations.ORDERS[name](self, arguments)

    def measure(self):
        """From now on find out how long the servers take."""
        self._measuring = True
        for pool in self.pools.values():
            pool.measure(self.slow)

    def drain(self):
        """Let nobody in any more, and have clients leave after their next answer. A reload lets them in again."""
        self.draining = True
        for listener in self._listeners.values():
            listener.stop()
        self._listeners = {}
        for pool in self.pools.values():
            pool.leave(softly=True)

    @staticmethod
    def now():
        return gevent.get_hub().loop.now()

    @staticmethod
    def soon(what):
        """Have `what` called from the loop: there clients may be woken."""
        gevent.get_hub().loop.run_callback(what)

    # -- the end

    def run(self, ready):
        """Serve until `end` is called; `ready` is called first, when clients are accepted."""
        keep_freed_memory()
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
        log.info("ending clients=%d", self.clients())
        for listener in self._listeners.values():
            listener.stop()
        if self._admin is not None:
            self._admin.stop()
        if self._softly:
            self._see_off(softly=True)
        self._see_off(softly=False)
        for pool in [*self.pools.values(), *self._leaving]:
            pool.close()
        self._ticker.close()

    def _see_off(self, softly):
        with gevent.Timeout(self._configs[0].grace, False):
            gevent.sleep(0)  # whose connection was accepted a moment ago is not known yet
            while self.clients():
                for pool in [*self.pools.values(), *self._leaving]:
                    pool.leave(softly)
                gevent.sleep(SHORTEST_TICK)

    def clients(self):
        return sum(pool.clients() for pool in [*self.pools.values(), *self._leaving])

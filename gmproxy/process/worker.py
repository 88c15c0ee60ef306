"""One serving process: makes the pools from their Configs, looks after them, changes them at a reload, and ends them in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import functools  # noqa: E402
import gc  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy import internal_errors
from gmproxy.client.listener import Listener  # noqa: E402
from gmproxy.compiled import BUILD  # noqa: E402
from gmproxy.errors import OVERLOAD  # noqa: E402
from gmproxy.internal_errors import Attempts  # noqa: E402
from gmproxy.monitoring import control_commands
from gmproxy.monitoring.slow_log import Lag, Slow  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402
from gmproxy.system import (
    descriptors,
    sockets,  # noqa: E402
)
from gmproxy.system.clock import running  # noqa: E402
from gmproxy.system.malloc import keep_freed_memory  # noqa: E402

#: Backends are looked after so many times in the shortest timeout: a late answer is noticed at most this part too late.
TICKS_PER_TIMEOUT = 20
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.05  # seconds

#: Seconds between two looks at what is to be logged in sum.
SUM_UP_EVERY = 1.0

#: Objects that live as long as a request are freed by their counts; the collector, which looks for cycles, finds next to none.
GC_THRESHOLDS = (100_000, 50, 50)

#: Reading the configuration does leave cycles, 50 KB in a single process: after a reload those are looked for, among what is young (a few
#: milliseconds at most). Otherwise reloads would add 16 MB before the collector runs by itself.
YOUNGEST = 0

log = logging.getLogger("gmproxy")


class Worker:
    """
    share         this process's part of the service
    set_up_logs   set_up_logs(config) opens the log anew, as `config` says
    pools         {name: Pool}
    slow          the latest slow requests, while somebody measures (gmproxy.monitoring.slow_log.Slow)
    lag           how late the loop is (gmproxy.monitoring.slow_log.Lag)
    draining      True once nobody is let in any more, and clients are let go
    """

    def __init__(self, share, set_up_logs):
        self.share = share
        self.set_up_logs = set_up_logs
        self.pools = {}
        self._configs = []
        self._listeners = {}  # place -> Listener
        self._admin = None    # who serves metrics and the like (gmproxy.monitoring.http.Admin)
        self._draining = []    # pools that were taken out and still have clients
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
        self._after_next_reply = False

    def serve(self, configs, places, new):
        """Serve the pools `configs` from now on, each at its `places`, {name: list}. `new`: {place: listening socket} that are to be
        used from now on and become ours. Called again at a reload: what stays is not disturbed.

        Raises StartError. If a new pool cannot be made, everything is as before; what fails after that is recorded, and the rest is done."""
        fresh = {}
        try:
            for config in configs:
                if config.name not in self.pools:
                    fresh[config.name] = Pool(config, self.share)
        except Exception:
            for sock in new.values():
                sock.close()
            for pool in fresh.values():
                pool.close()
            raise
        self._configs = configs
        self.draining = False
        gone = {name: pool for name, pool in self.pools.items() if name not in places}
        known = {**self.pools, **fresh}
        self.pools = {config.name: known[config.name] for config in configs}
        attempts = Attempts("worker.serve")
        attempts.make(self._make_room, configs)
        attempts.make(self._serve_admin, configs[0], new)
        for place, sock in new.items():
            attempts.make(self._listen, place, sock)
        for config in configs:
            if config.name not in fresh:
                attempts.make(self.pools[config.name].reload, config)
        if self._measuring or configs[0].admin:
            attempts.make(self.measure)
        for name in places:
            for place in places[name]:
                attempts.make(self._open_to_clients, place, self.pools[name])
        for place in set(self._listeners) - {place for name in places for place in places[name]}:
            attempts.make(self._listeners.pop(place).stop)
        for pool in gone.values():
            self._draining.append(pool)
            attempts.make(pool.leave, True)
        self._tick_every(min(config.timeout for config in configs) / TICKS_PER_TIMEOUT)
        gc.collect(YOUNGEST)
        attempts.end()

    def _listen(self, place, sock):
        self._listeners[place] = Listener(sock, self.share)

    def _open_to_clients(self, place, pool):
        self._listeners[place].serve(pool.service)

    def _serve_admin(self, config, new):
        """Take the sockets for metrics and the like out of `new`: the first worker serves them, for all."""
        given = {place: new.pop(place) for place in sockets.for_admin(config) if place in new}
        if self.share.number:
            for sock in given.values():
                sock.close()
            return
        if given and self._admin is None:
            from gmproxy.monitoring.http import (
                Admin,  # only where it is wanted: it needs more memory than the rest of us
            )
            self._admin = Admin(self)
        if self._admin is not None:
            self._admin.serve(config, given)

    def _make_room(self, configs):
        room = descriptors.make_room(configs, self.share.workers)
        self.share.room = room.clients
        if room.limit < room.wanted:
            log.warning("limit of open files is low limit=%d wanted=%d clients=%d", room.limit, room.wanted, room.clients)

    def _tick_every(self, interval):
        if self._ticker is not None:
            self._ticker.close()
        self._interval = interval = min(max(interval, SHORTEST_TICK), LONGEST_TICK)
        self._ticker = gevent.get_hub().loop.timer(interval, interval)
        self._ticker.start(self._tick)

    def _tick(self):
        """In the loop's callback, not in a greenlet: what fails here wakes clients, and they do not come back to a greenlet."""
        attempts = Attempts("worker.tick")
        attempts.make(running.tick, self._interval)
        now = self.now()
        for pool in [*self.pools.values(), *self._draining]:
            attempts.make(pool.tick, now)
        attempts.make(self.lag.tick, now, self._interval)
        if now >= self._sum_up_at:
            self._sum_up_at = now + SUM_UP_EVERY
            attempts.make(self._sum_up)
        attempts.make(self._close_left_pools)

    def _close_left_pools(self):
        for pool in self._draining[:]:
            pool.leave(after_next_reply=True)  # also who was just being let in when it was taken out
            if not pool.clients():
                self._draining.remove(pool)
                pool.close()

    def _sum_up(self):
        """Log what would be too much to be logged for each request; and end what somebody began and forgot."""
        control_commands.end_late_samples(self.pools.values(), self.now())
        for count, slowest in self.slow.untold():
            log.warning("slow requests server=%s requests=%d slowest=%.0fms command=%s key=%r", slowest["backend"], count,
                        slowest["seconds"] * 1000, slowest["command"], slowest["key"])
        refused = {  # but those that were not connected are in the log already
            backend: backend.counters.errors[OVERLOAD] - backend.counters.not_connected for pool in self.pools.values() for backend in pool.backends
        }
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
        if name not in control_commands.COMMANDS:
            raise LookupError(f"there is no command {name!r}")
        return control_commands.COMMANDS[name](self, arguments)

    def measure(self):
        """From now on find out how long the servers take."""
        self._measuring = True
        for pool in self.pools.values():
            pool.measure(self.slow)

    def drain(self):
        """Let nobody in any more, and have clients leave after their next answer. A reload lets them in again."""
        self.draining = True
        attempts = Attempts("worker.drain")
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            attempts.make(listener.stop)
        for pool in self.pools.values():
            attempts.make(pool.leave, True)

    @staticmethod
    def now():
        """Monotonic seconds, by which everything here is scheduled: the loop's time follows the machine's clock when that is set."""
        return time.monotonic()

    @staticmethod
    def soon(what):
        """Have `what` called from the loop: there clients may be woken."""
        gevent.get_hub().loop.run_callback(what)

    # -- the end

    def run(self, ready):
        """Serve until `end` is called; `ready` is called first, when clients are accepted."""
        gevent.get_hub().print_exception = _record_exception
        Attempts("worker.run").make(keep_freed_memory)  # it is better with that, but not worth to end for
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        backends = sum(len(pool.backends) for pool in self.pools.values())
        log.info("serving build=%s pools=%d backends=%d", BUILD, len(self.pools), backends)
        ready()
        self._ending.wait()
        self._finish()

    def end(self, after_next_reply=False):
        """Have `run` return: at once if nobody waits for an answer, and within the grace. `after_next_reply`: clients leave after the next answer
        if that comes within the grace; only then is the rest asked to leave."""
        self._after_next_reply = after_next_reply
        self._ending.set()

    def _finish(self):
        """Whatever fails of it, the rest is done, and the process ends."""
        attempts = Attempts("worker.finish")
        attempts.make(lambda: log.info("ending clients=%d", self.clients()))
        for listener in self._listeners.values():
            attempts.make(listener.stop)
        if self._admin is not None:
            attempts.make(self._admin.stop)
        if self._after_next_reply:
            attempts.make(self._see_off, True)
        attempts.make(self._see_off, False)
        for pool in [*self.pools.values(), *self._draining]:
            attempts.make(pool.close)
        self._ticker.close()
        attempts.make(running.stop)

    def _see_off(self, after_next_reply):
        attempts = Attempts("worker.see_off")
        with gevent.Timeout(self._configs[0].grace, False):
            gevent.sleep(0)  # whose connection was accepted a moment ago is not known yet
            while self.clients():
                for pool in [*self.pools.values(), *self._draining]:
                    attempts.make(pool.leave, after_next_reply)
                gevent.sleep(SHORTEST_TICK)

    def clients(self):
        return sum(pool.clients() for pool in [*self.pools.values(), *self._draining])


def every(seconds, call, *arguments):
    """For a greenlet: call `call` every `seconds`, also after it has raised an Exception, which is recorded."""
    call = internal_errors.guarded(f"every.{call.__name__}", call)
    while True:
        call(*arguments)
        gevent.sleep(seconds)


def _record_exception(context, kind, error, traceback):
    """What a greenlet or a callback of the loop did not catch: gevent would print it to stderr, and wait if that is a full pipe."""
    try:
        raise error.with_traceback(traceback)
    except BaseException:  # a gevent.Timeout is no Exception
        internal_errors.record("hub")

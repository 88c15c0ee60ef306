"""One serving process: creates the pools from their Configs, drives their timers, changes them at a reload, and ends them in order."""

from gevent import monkey

monkey.patch_all()  # before anything else imports socket: names are resolved and connections made without blocking the loop

import functools  # noqa: E402
import gc  # noqa: E402
import logging  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from socket import socket  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from gmproxy import internal_errors  # noqa: E402
from gmproxy.client.listener import Listener  # noqa: E402
from gmproxy.compiled import BUILD  # noqa: E402
from gmproxy.errors import OVERLOAD  # noqa: E402
from gmproxy.internal_errors import Attempts  # noqa: E402
from gmproxy.monitoring import control_commands  # noqa: E402
from gmproxy.monitoring.slow_log import LoopLag, SlowLog  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402
from gmproxy.process.worker_context import WorkerContext  # noqa: E402
from gmproxy.process.worker_group import Addresses, Result  # noqa: E402
from gmproxy.system import descriptors, sockets  # noqa: E402
from gmproxy.system.clock import running  # noqa: E402
from gmproxy.system.malloc import keep_freed_memory  # noqa: E402

#: Ticks in the shortest timeout: a late reply is noticed at most this part of it too late.
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
    context       this process's part of the service
    set_up_logs   set_up_logs(config) opens the log again, as `config` says
    pools         {name: Pool}
    slow          the latest slow requests, while requests are measured (gmproxy.monitoring.slow_log.SlowLog)
    lag           how late the loop is (gmproxy.monitoring.slow_log.LoopLag)
    draining      True once no client is accepted any more, and clients are disconnected after their next reply
    """

    def __init__(self, context: WorkerContext, set_up_logs: Callable[..., Any]) -> None:
        self.context = context
        self.set_up_logs = set_up_logs
        self.pools: dict[str, Pool] = {}
        self._configs: Sequence[Any] = []
        self._listeners: dict[str, Listener] = {}  # by address
        self._admin: Any = None  # serves metrics and the like (gmproxy.monitoring.admin_server.AdminServer)
        self._draining: list[Pool] = []  # that were removed and still have clients
        self.slow = SlowLog(time.time)
        self.lag = LoopLag()
        self.draining = False
        self._measuring = False
        context.report = functools.partial(self.run_command, "report", [])
        self._sum_up_at = 0.0
        self._overloaded: dict[Any, int] = {}  # backend -> requests that were refused for it when that was last logged
        self._ticker: Any = None
        self._interval = LONGEST_TICK
        self._ending = Event()
        self._after_next_reply = False

    def reconfigure(self, configs: Sequence[Any], addresses: Addresses, new: dict[str, socket]) -> None:
        """Serve the pools `configs` from now on, each at its `addresses`. `new`: {address: listening socket} that are used from now on and become
        ours. Called at the start and at a reload, in a greenlet: what stays is not disturbed.

        Raises StartError. If a new pool cannot be created, everything is as before; what fails after that is recorded, and the rest is done."""
        fresh: dict[str, Pool] = {}
        try:
            for config in configs:
                if config.name not in self.pools:
                    fresh[config.name] = Pool(config, self.context)
        except Exception:
            for sock in new.values():
                sock.close()
            for pool in fresh.values():
                pool.shut_down()
            raise
        self._configs = configs
        self.draining = False
        self.context.accepting = True
        gone = {name: pool for name, pool in self.pools.items() if name not in addresses}
        known = {**self.pools, **fresh}
        self.pools = {config.name: known[config.name] for config in configs}
        attempts = Attempts("worker.reconfigure")
        attempts.make(self._reserve_descriptors, configs)
        attempts.make(self._serve_admin, configs[0], new)
        for address, sock in new.items():
            attempts.make(self._listen, address, sock)
        for config in configs:
            if config.name not in fresh:
                attempts.make(self.pools[config.name].reload, config)
        if self._measuring or configs[0].admin:
            attempts.make(self.measure)
        for name in addresses:
            for address in addresses[name]:
                attempts.make(self._open_to_clients, address, self.pools[name])
        for address in set(self._listeners) - {address for name in addresses for address in addresses[name]}:
            attempts.make(self._listeners.pop(address).stop)
        for pool in gone.values():
            self._draining.append(pool)
            attempts.make(pool.drain_clients, True)
        self._tick_every(min(config.timeout for config in configs) / TICKS_PER_TIMEOUT)
        gc.collect(YOUNGEST)
        attempts.end()

    def _listen(self, address: str, sock: socket) -> None:
        self._listeners[address] = Listener(sock, self.context)

    def _open_to_clients(self, address: str, pool: Pool) -> None:
        self._listeners[address].serve(pool.context)

    def _serve_admin(self, config: Any, new: dict[str, socket]) -> None:
        """Take the admin sockets out of `new`: the first worker serves them, for all workers."""
        admin = {address: new.pop(address) for address in sockets.admin_addresses(config) if address in new}
        if self.context.number:
            for sock in admin.values():
                sock.close()
            return
        if admin and self._admin is None:
            from gmproxy.monitoring.admin_server import (
                AdminServer,  # only where it is configured: it needs more memory than the rest of the process
            )

            self._admin = AdminServer(self)
        if self._admin is not None:
            self._admin.follow_config(config, admin)

    def _reserve_descriptors(self, configs: Sequence[Any]) -> None:
        files = descriptors.reserve(list(configs), self.context.workers)
        self.context.max_clients = files.clients
        if files.limit < files.wanted:
            log.warning("limit of open files is low limit=%d wanted=%d clients=%d", files.limit, files.wanted, files.clients)

    def _tick_every(self, interval: float) -> None:
        if self._ticker is not None:
            self._ticker.close()
        self._interval = interval = min(max(interval, SHORTEST_TICK), LONGEST_TICK)
        self._ticker = gevent.get_hub().loop.timer(interval, interval)
        self._ticker.start(self._tick)

    def _tick(self) -> None:
        """Called from the loop, not in a greenlet: what fails here wakes clients, and they do not come back to a greenlet."""
        attempts = Attempts("worker.tick")
        attempts.make(running.advance, self._interval)
        now = self.now()
        for pool in [*self.pools.values(), *self._draining]:
            attempts.make(pool.run_due_tasks, now)
        attempts.make(self.lag.observe, now, self._interval)
        if now >= self._sum_up_at:
            self._sum_up_at = now + SUM_UP_EVERY
            attempts.make(self._sum_up)
        attempts.make(self._close_left_pools)

    def _close_left_pools(self) -> None:
        for pool in self._draining[:]:
            pool.drain_clients(after_next_reply=True)  # also clients that were being accepted when it was removed
            if not pool.clients():
                self._draining.remove(pool)
                pool.shut_down()

    def _sum_up(self) -> None:
        """Log summaries of what would be too much for one line per request; and end samplings that were started and never ended."""
        control_commands.end_late_samples(self.pools.values(), self.now())
        for summary in self.slow.take_unreported(self.now()):
            slowest = summary.slowest
            pool_log = next((pool.log for pool in self.pools.values() if pool.title == slowest["pool"]), log)
            pool_log.warning(
                "slow requests server=%s requests=%d servers=%d slowest=%.0fms command=%s key=%r",
                slowest["backend"],
                summary.requests,
                len(summary.servers),
                slowest["seconds"] * 1000,
                slowest["command"],
                slowest["key"],
            )
        refused = {  # but those that were not connected are in the log already
            backend: backend.counters.errors[OVERLOAD] - backend.counters.not_connected
            for pool in self.pools.values()
            for backend in pool.backends
        }
        for backend, count in refused.items():
            if count > self._overloaded.get(backend, 0):
                backend.log.warning("backend overloaded server=%s requests=%d", backend.label, count - self._overloaded.get(backend, 0))
        self._overloaded = refused

    # -- commands

    def run_command(self, name: str, arguments: list[Any]) -> Result:
        """Run a command in this process. Returns its result. Raises LookupError, StartError. May wait: for a greenlet."""
        if name == "reopen":
            self.set_up_logs(self._configs[0])
            return {}
        if name not in control_commands.COMMANDS:
            raise LookupError(f"there is no command {name!r}")
        return control_commands.COMMANDS[name](self, arguments)

    def measure(self) -> None:
        """Measure from now on how long the servers take."""
        self._measuring = True
        for pool in self.pools.values():
            pool.measure(self.slow)

    def drain(self) -> None:
        """Accept no more clients, and disconnect each after its next reply. A reload accepts clients again."""
        self.draining = True
        self.context.accepting = False
        attempts = Attempts("worker.drain")
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            attempts.make(listener.stop)
        for pool in self.pools.values():
            attempts.make(pool.drain_clients, True)

    @staticmethod
    def now() -> float:
        """Monotonic seconds, by which everything here is scheduled: the loop's time follows the machine's clock when that is set."""
        return time.monotonic()

    @staticmethod
    def soon(callback: Callable[[], Any]) -> None:
        """Have `callback` called from the loop: only there clients may be woken."""
        gevent.get_hub().loop.run_callback(callback)

    # -- start and end

    def run(self, ready: Callable[[], Any]) -> None:
        """Serve until `end` is called, in a greenlet; `ready` is called first, when clients are accepted."""
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

    def end(self, after_next_reply: bool = False) -> None:
        """Have `run` return: at once if no client waits for a reply, else within the grace period. `after_next_reply`: clients are disconnected
        after their next reply if that comes within the grace period; only then the others are. Does not wait."""
        self._after_next_reply = after_next_reply
        self._ending.set()

    def _finish(self) -> None:
        """Whatever fails of it, the rest is done, and the process ends."""
        attempts = Attempts("worker.finish")
        attempts.make(lambda: log.info("ending clients=%d", self.clients()))
        for listener in self._listeners.values():
            attempts.make(listener.stop)
        if self._admin is not None:
            attempts.make(self._admin.close_listeners)
        if self._after_next_reply:
            attempts.make(self._disconnect_clients, True)
        attempts.make(self._disconnect_clients, False)
        for pool in [*self.pools.values(), *self._draining]:
            attempts.make(pool.shut_down)
        self._ticker.close()
        attempts.make(running.stop)

    def _disconnect_clients(self, after_next_reply: bool) -> None:
        attempts = Attempts("worker.disconnect_clients")
        with gevent.Timeout(self._configs[0].grace, False):
            gevent.sleep(0)  # whose connection was accepted a moment ago is not known yet
            while self.clients():
                for pool in [*self.pools.values(), *self._draining]:
                    attempts.make(pool.drain_clients, after_next_reply)
                gevent.sleep(SHORTEST_TICK)

    def clients(self) -> int:
        """The number of clients connected to this process."""
        return sum(pool.clients() for pool in [*self.pools.values(), *self._draining])


def every(seconds: float, call: Callable[..., Any], *arguments: Any) -> NoReturn:
    """Call `call` every `seconds`, in a greenlet, also after it has raised an Exception, which is recorded."""
    call = internal_errors.guarded(f"every.{call.__name__}", call)
    while True:
        call(*arguments)
        gevent.sleep(seconds)


def _record_exception(context: Any, kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Record what a greenlet or a callback of the loop did not catch: gevent would print it to stderr, and wait if that is a full pipe."""
    try:
        raise error.with_traceback(traceback)
    except BaseException:  # a gevent.Timeout is no Exception
        internal_errors.record("hub")

"""A process that serves clients: creates the pools from their Configs, runs their timers, reloads them, and shuts them down."""

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
from gmproxy.backend.backend import Backend  # noqa: E402
from gmproxy.client.listener import Listener  # noqa: E402
from gmproxy.compiled import BUILD  # noqa: E402
from gmproxy.config.configuration import Config  # noqa: E402
from gmproxy.errors import OVERLOAD  # noqa: E402
from gmproxy.internal_errors import Attempts  # noqa: E402
from gmproxy.monitoring import control_commands  # noqa: E402
from gmproxy.monitoring.slow_log import LoopLag, SlowLog  # noqa: E402
from gmproxy.pool import Pool  # noqa: E402
from gmproxy.process.orphans import Orphans  # noqa: E402
from gmproxy.process.worker_context import WorkerContext  # noqa: E402
from gmproxy.process.worker_group import Addresses, Result  # noqa: E402
from gmproxy.system import descriptors, sockets  # noqa: E402
from gmproxy.system.clock import running  # noqa: E402
from gmproxy.system.malloc import keep_freed_memory  # noqa: E402

#: Ticks in the shortest timeout of the pools. A timeout is noticed up to one tick too late.
TICKS_PER_TIMEOUT = 20
SHORTEST_TICK, LONGEST_TICK = 0.01, 0.05  # seconds

#: Seconds between two looks for what processes that have ended have left.
ADOPT_EVERY = 0.5

#: Seconds between two log summaries.
SUM_UP_EVERY = 1.0

#: Thresholds of the garbage collector, which finds only cycles. They are high because the objects of a request are freed by their reference
#: counts and hardly ever form one.
GC_THRESHOLDS = (100_000, 50, 50)

#: The generation collected after a reload, which takes a few milliseconds at most. Reading the configuration leaves cycles, 50 KB in a single
#: process; with the thresholds above they would add up to 16 MB before the collector runs by itself.
YOUNGEST = 0

log = logging.getLogger("gmproxy")


class Worker:
    """Serves the clients of all pools in this process.

    context       this worker's part of the service
    set_up_logs   set_up_logs(config) opens the log again, as `config` says
    pools         {name: Pool}
    slow          the latest slow requests, once `measure` was called
    lag           how late the loop runs its timers
    refills       {(title of the pool, role, label of the server): gmproxy.monitoring.refill.Refill}, those that have ended included
    verification  the last comparison of primaries and backups (gmproxy.monitoring.verification.Verification), or None
    draining      True while no client is accepted and clients are disconnected after their next reply

    The methods are called in greenlets, except where they say otherwise.
    """

    def __init__(self, context: WorkerContext, set_up_logs: Callable[..., Any]) -> None:
        self.context = context
        self.set_up_logs = set_up_logs
        self.pools: dict[str, Pool] = {}
        self._configs: Sequence[Config] = []
        self._listeners: dict[str, Listener] = {}  # by address
        self._admin: Any = None  # AdminServer: serves metrics, health and the status page
        self._draining: list[Pool] = []  # removed from the configuration, and still with clients
        self.slow = SlowLog(time.time)
        self.lag = LoopLag()
        self.draining = False
        self.verification: Any = None
        self.refills: dict[tuple[str, str, str], Any] = {}
        self._measuring = False
        context.report = functools.partial(self.run_command, "report", [])
        self._sum_up_at = 0.0
        self._overloaded: dict[Backend, int] = {}  # requests refused because of overload, as last logged
        self._ticker: Any = None
        self._interval = LONGEST_TICK
        self._orphans = Orphans(context.shared)
        self._keeper: Any = None  # the greenlet of `_keep_shared_state`
        self._ending = Event()  # set by `end`
        self._after_next_reply = False

    def reconfigure(self, configs: Sequence[Config], addresses: Addresses, new: dict[str, socket]) -> None:
        """Serve the pools `configs` from now on, each at its `addresses`. `new`: {address: listening socket} for the addresses that are new;
        the worker takes the sockets over. Called at start-up and at a reload. Pools, servers and clients that stay are not disturbed.

        Raises ConfigError if a new pool cannot be created; then nothing has changed. An exception after that is recorded, everything else
        is done, and StartError is raised at the end."""
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
        removed = {name: pool for name, pool in self.pools.items() if name not in addresses}
        pools = {**self.pools, **fresh}
        self.pools = {config.name: pools[config.name] for config in configs}
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
        for pool in removed.values():
            self._draining.append(pool)
            attempts.make(pool.drain_clients, True)
        self._tick_every(min(config.timeout for config in configs) / TICKS_PER_TIMEOUT)
        gc.collect(YOUNGEST)
        attempts.end()

    def _listen(self, address: str, sock: socket) -> None:
        self._listeners[address] = Listener(sock, self.context)

    def _open_to_clients(self, address: str, pool: Pool) -> None:
        self._listeners[address].serve(pool.context)

    def _serve_admin(self, config: Config, new: dict[str, socket]) -> None:
        """Remove the admin sockets from `new`, and have the first worker serve them for all workers."""
        admin = {address: new.pop(address) for address in sockets.admin_addresses(config) if address in new}
        if self.context.number:
            for sock in admin.values():
                sock.close()
            return
        if admin and self._admin is None:
            # Imported only if it is configured: it needs more memory than the rest of the process.
            from gmproxy.monitoring.admin_server import AdminServer

            self._admin = AdminServer(self)
        if self._admin is not None:
            self._admin.follow_config(config, admin)

    def _reserve_descriptors(self, configs: Sequence[Config]) -> None:
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
        """Loop callback, not a greenlet: a request that fails here resumes its client's greenlet, which only the loop may do."""
        attempts = Attempts("worker.tick")
        attempts.make(running.advance, self._interval)
        now = self.now()
        for pool in [*self.pools.values(), *self._draining]:
            attempts.make(pool.run_due_tasks, now)
        attempts.make(self.lag.observe, now, self._interval)
        if now >= self._sum_up_at:
            self._sum_up_at = now + SUM_UP_EVERY
            attempts.make(self._sum_up)
        attempts.make(self._close_drained_pools)

    def _close_drained_pools(self) -> None:
        for pool in self._draining[:]:
            pool.drain_clients(after_next_reply=True)  # again, for clients that were being accepted when the pool was removed
            if not pool.clients():
                self._draining.remove(pool)
                pool.shut_down()

    def _sum_up(self) -> None:
        """Log summaries of events too frequent for a line each, and end samples whose time is over."""
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
        refused = {  # without those for which no connection could be made: `backend not connected` is logged for them
            backend: backend.counters.errors[OVERLOAD] - backend.counters.not_connected
            for pool in self.pools.values()
            for backend in pool.backends
        }
        for backend, count in refused.items():
            if count > self._overloaded.get(backend, 0):
                backend.log.warning("backend overloaded server=%s requests=%d", backend.label, count - self._overloaded.get(backend, 0))
        self._overloaded = refused

    def _keep_shared_state(self) -> None:
        """Take over what processes that have ended have left, and write the journal anew where that is due. Greenlet only: blocks for the disk."""
        if not self.draining and not self._ending.is_set():  # after an upgrade, only the successor knows all pools and servers
            self._orphans.adopt_all(list(self.pools.values()))
        journal = self.context.shared.journal
        if journal is not None and journal.needs_rewrite:
            pending = (entry for pool in self.pools.values() for backend in pool.backends for entry in backend.missed())
            journal.rewrite(pending, functools.partial(gevent.sleep, 0))

    def _leave_shared_state(self) -> None:
        """The last thing that this process does. Requests in flight are lost by now."""
        if self._keeper is not None:
            self._keeper.kill()
        self.context.shared.release(all(pool.is_settled() for pool in [*self.pools.values(), *self._draining]))

    # -- commands

    def run_command(self, name: str, arguments: list[Any]) -> Result:
        """Run a command in this process. Returns its result, a JSON object. Raises LookupError for an unknown command or argument, StartError
        if the log cannot be opened. Greenlet only: some commands block."""
        if name == "reopen":
            self.set_up_logs(self._configs[0])
            return {}
        if name not in control_commands.COMMANDS:
            raise LookupError(f"there is no command {name!r}")
        return control_commands.COMMANDS[name](self, arguments)

    def measure(self) -> None:
        """Measure the latency of the servers, and record slow requests, from now on."""
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
        """Monotonic seconds. Everything here is scheduled by it, and not by the time of the loop, which jumps when the system clock is set."""
        return time.monotonic()

    @staticmethod
    def soon(callback: Callable[[], Any]) -> None:
        """Run `callback` as a loop callback: greenlets of clients may be resumed only there."""
        gevent.get_hub().loop.run_callback(callback)

    # -- start-up and shutdown

    def run(self, ready: Callable[[], Any]) -> None:
        """Serve until `end` is called. `ready` is called first, when clients are accepted. Greenlet only: blocks until the shutdown is
        complete."""
        gevent.get_hub().print_exception = _record_exception
        Attempts("worker.run").make(keep_freed_memory)  # an optimization: a failure is recorded and ignored
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        backends = sum(len(pool.backends) for pool in self.pools.values())
        log.info("serving build=%s pools=%d backends=%d", BUILD, len(self.pools), backends)
        ready()
        self._keeper = gevent.spawn(every, ADOPT_EVERY, self._keep_shared_state)
        self._ending.wait()
        self._finish()

    def end(self, after_next_reply: bool = False) -> None:
        """Have `run` return: at once if no client waits for a reply, else within the grace period. `after_next_reply`: disconnect clients
        after their next reply, and those without one at the end of a grace period. Loop callback or greenlet."""
        self._after_next_reply = after_next_reply
        self._ending.set()

    def _finish(self) -> None:
        """Shut down in order. A step that fails is recorded, and the next ones are still done."""
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
        attempts.make(self._leave_shared_state)

    def _disconnect_clients(self, after_next_reply: bool) -> None:
        """Drain the clients of all pools. Blocks until they are disconnected, at most for the grace period."""
        attempts = Attempts("worker.disconnect_clients")
        with gevent.Timeout(self._configs[0].grace, False):
            gevent.sleep(0)  # let connections that were just accepted become clients
            while self.clients():
                for pool in [*self.pools.values(), *self._draining]:
                    attempts.make(pool.drain_clients, after_next_reply)
                gevent.sleep(SHORTEST_TICK)

    def clients(self) -> int:
        """The number of clients connected to this process. Loop callback or greenlet."""
        return sum(pool.clients() for pool in [*self.pools.values(), *self._draining])


def every(seconds: float, call: Callable[..., Any], *arguments: Any) -> NoReturn:
    """Call `call` every `seconds`, also after it has raised an Exception, which is recorded. Greenlet only: it never returns."""
    call = internal_errors.guarded(f"every.{call.__name__}", call)
    while True:
        call(*arguments)
        gevent.sleep(seconds)


def _record_exception(context: Any, kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Record what a greenlet or a loop callback did not catch. gevent would print it to stderr, and block if that is a full pipe."""
    try:
        raise error.with_traceback(traceback)
    except BaseException:  # gevent.Timeout is not an Exception
        internal_errors.record("hub")

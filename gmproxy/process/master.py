"""The master of several workers: forks them, replaces those that die, and passes signals to the supervisor. It serves no client.

One select loop watches the signals (Python writes them into a pipe), the channels to the workers, the control socket and its operators;
only the loop waits. gevent is imported in the workers, after the fork.
"""

import contextlib
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from gmproxy import internal_errors
from gmproxy.config.configuration import Config, as_plain
from gmproxy.errors import GmproxyError, StartError
from gmproxy.internal_errors import Attempts
from gmproxy.monitoring import control_commands, logging_setup
from gmproxy.monitoring.events import RECENT_EVENTS
from gmproxy.process.client_counts import ClientCounts
from gmproxy.process.control_server import ControlListener, ControlServer
from gmproxy.process.dump_locks import DumpLocks
from gmproxy.process.service_memory import ServiceMemory
from gmproxy.process.supervisor import POLL_INTERVAL, Supervisor
from gmproxy.process.worker_context import WorkerContext
from gmproxy.process.worker_group import Addresses, Result, WorkerGroup
from gmproxy.process.worker_rpc import Child, WorkerRpc
from gmproxy.system import bootstrap, control_socket
from gmproxy.system.control_socket import Message
from gmproxy.system.select_loop import SelectLoop

#: Seconds until a worker that died is replaced. The delay doubles, up to the longest, each time its successor dies within STEADY seconds.
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
STEADY = 10.0

#: The service ends if no worker is ready and one has failed to start this many times in a row.
ATTEMPTS = 5

#: Seconds after the grace period until a worker that has not ended is killed.
KILL_AFTER = 2.0

#: Seconds of pause after an exception in the loop itself: the cause may last, and the loop must not use a whole CPU.
LOOP_PAUSE = 0.1

log = logging.getLogger("gmproxy")


class Master(WorkerGroup):
    """The `count` worker processes of a service. `set_up_logs(config, worker="")` opens the log; `worker` is shown in its lines."""

    loop: SelectLoop

    def __init__(self, supervisor: Supervisor, shared: ServiceMemory, count: int, set_up_logs: Callable[..., Any]) -> None:
        super().__init__(SelectLoop(), shared)
        self._supervisor = supervisor
        self._count = count
        self._client_counts = ClientCounts(count)
        self._dump_locks = DumpLocks()
        self._set_up_logs = set_up_logs
        self._started_at = time.monotonic()
        self._children: dict[int, Child] = {}  # by pid
        self._rpc = WorkerRpc(self.loop, self._children)
        self._failed: dict[int, int] = {}  # number of a worker -> failed starts in a row
        self._all_were_ready = False
        self._deferred_signals: list[int] = []  # received before all workers were ready, acted on then
        self._ready: Callable[[], None] = lambda: None
        self._control_server = ControlServer(self.loop, supervisor.run_command)
        self._control_listener: ControlListener | None = None
        self._ending = False
        self._failure: str | None = None  # the error with which the service ends
        supervisor.workers = self

    def run(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._assign_rows(self._supervisor.configs)
        self._catch_signals()
        try:
            for number in range(0 if self._ending else self._count):
                self._start(number, FIRST_DELAY)
        except OSError as error:
            self._give_up(f"a worker cannot be started: {error.strerror}")
        control = self._supervisor.listening_sockets.control
        if control is not None:
            self._control_listener = ControlListener(self.loop, control, self._control_server)
        self.loop.call_every(POLL_INTERVAL, self._supervisor.poll)
        notifier = self._supervisor.notifier
        if notifier.watchdog_interval:
            self.loop.call_every(notifier.watchdog_interval / 2, functools.partial(self._rpc.ping_all, self._supervisor.notify_watchdog))
        try:
            while not self._ending or self._children:
                try:
                    self.loop.run_once()
                except Exception:
                    internal_errors.record("master.loop")
                    time.sleep(LOOP_PAUSE)
        finally:
            for child in self._children.values():
                child.kill()
        if self._failure:
            raise StartError(self._failure)

    def _assign_rows(self, configs: Sequence[Config]) -> None:
        self._client_counts.assign_rows([config.name for config in configs])

    # -- signals

    def _catch_signals(self) -> None:
        """Have the loop read signals, each a byte in a pipe. Act at once on those that were held during start-up."""
        wakeup, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*self._supervisor.signals, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self.loop.add_reader(wakeup, functools.partial(self._read_signals, wakeup))
        for held in bootstrap.take_held_signals():
            self._on_signal(held)

    def _read_signals(self, wakeup: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wakeup, 4096):
                internal_errors.guarded("master.signal", self._on_signal)(number)

    def _on_signal(self, number: int) -> None:
        try:
            if number == signal.SIGCHLD:
                self._reap()
            elif number in bootstrap.END_SIGNALS or number in self._supervisor.signals and self._all_were_ready:
                self._supervisor.on_signal(number)
            elif number in self._supervisor.signals and number not in self._deferred_signals:
                self._deferred_signals.append(number)
        except Exception:
            internal_errors.record("master.signal")
            if number in bootstrap.END_SIGNALS:  # the service ends, whatever fails
                self._supervisor.on_signal(number)

    # -- starting a worker

    def _start(self, number: int, delay: float) -> None:
        """Fork the worker `number`. If it dies within STEADY seconds, another is started after `delay` seconds. Raises OSError."""
        master_end, worker_end = socket.socketpair()
        caught: set[int] = {*self._supervisor.signals, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, caught)  # until the child has its own handlers
        try:
            pid = os.fork()
            if not pid:
                self._run_worker(number, master_end, worker_end, caught)
        except OSError:
            master_end.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caught)
            worker_end.close()
        child = Child(pid, number, delay)
        try:
            child.connect(self.loop, master_end, self._on_message)
        except Exception:
            child.kill()  # it cannot receive commands
            master_end.close()
            raise
        self._children[pid] = child

    def _run_worker(self, number: int, master_end: socket.socket, worker_end: socket.socket, caught: set[int]) -> NoReturn:
        """In the child: serve until the master ends it, and exit. An error is sent to the master over the channel."""
        status = 1
        channel = control_socket.Channel(worker_end, takes_sockets=True)
        try:
            master_end.close()
            self._close_inherited()
            RECENT_EVENTS.clear()
            logging_setup.forget_dropped()
            internal_errors.forget()
            bootstrap.take_held_signals()
            bootstrap.hold_signals()  # until gevent's handlers are installed
            for signal_number in set(self._supervisor.signals) - set(bootstrap.END_SIGNALS):
                signal.signal(signal_number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, caught)
            self._serve(number, channel)
            status = 0
        except GmproxyError as error:
            with contextlib.suppress(OSError):
                channel.send_message({"failed": str(error)})
        except BaseException as error:
            internal_errors.record("master.worker", f"worker={number + 1}")
            with contextlib.suppress(OSError):
                channel.send_message({"failed": repr(error)})
        finally:
            os._exit(status)

    def _close_inherited(self) -> None:
        """Close the master's descriptors in the child. Most important are the channels to the other workers: a worker notices that the master
        has died by the end of its channel, so no other process may have a copy of the master's end."""
        signal.set_wakeup_fd(-1)
        for child in self._children.values():
            child.peer.close_in_child()
        self._control_server.close_in_child()
        control = self._supervisor.listening_sockets.control
        if control is not None:
            control.close()
        for source in self.loop.sources():
            if isinstance(source, int):
                os.close(source)
        self.loop.close()
        self._supervisor.start_report.close_pipe()
        if self._supervisor.pid_keeper is not None:
            self._supervisor.pid_keeper.close()

    def _serve(self, number: int, channel: control_socket.Channel) -> None:
        set_up_logs = functools.partial(self._set_up_logs, worker=str(number + 1))
        set_up_logs(self._supervisor.configs[0])
        try:
            from gmproxy.process.worker_process import WorkerProcess  # not earlier: gevent must be imported after the fork
        except ImportError as error:
            raise StartError(f"user {os.getuid()} cannot load the program: {error}") from None
        context = WorkerContext(number, self._count, self._started_at, self._client_counts, self.shared.join(), self._dump_locks)
        context.fills_enabled = self._supervisor.switches.is_on("fills")  # from the first request on, not only when it is ready
        context.replicas_off = self._supervisor.switches.replicas_off()
        configs, listening = self._supervisor.configs, self._supervisor.listening_sockets
        WorkerProcess(channel, context, set_up_logs).run(configs, listening.all_addresses(configs), dict(listening.sockets))

    def _on_message(self, child: Child, message: Message) -> None:
        """Loop callback. If this raises, the message is lost and the worker goes on, unless it was still starting: then it is replaced."""
        try:
            if "ready" in message:
                self._on_ready(child)
            elif "failed" in message:
                child.failure = message["failed"]
            else:
                self._rpc.on_message(child, message)
        except Exception:
            internal_errors.record("master.on_message")
            if not child.ready:
                child.kill()  # its report is lost, so it would never count as ready: replace it

    def _on_ready(self, child: Child) -> None:
        child.ready = True
        self._failed.pop(child.number, None)
        child.send_command("log-level", [control_commands.log_level()])  # an operator may have changed it since the configuration was read
        for server in self._supervisor.ejected:
            child.send_command("eject", [server])
        for command, arguments in self._supervisor.switches.commands():
            child.send_command(command, arguments)
        if self._supervisor.draining:
            child.send_command("drain", [])
        if not self._all_were_ready and sum(one.ready for one in self._children.values()) == self._count:
            self._all_were_ready = True
            try:
                self._supervisor.on_ready(self._ready)
            except Exception as error:
                if not isinstance(error, GmproxyError):
                    internal_errors.record("master.on_ready")
                self._give_up(str(error))
                return
            while self._deferred_signals:
                internal_errors.guarded("master.signal", self._on_signal)(self._deferred_signals.pop(0))

    # -- when a worker dies

    def _reap(self) -> None:
        """Collect the exit statuses of all children that have ended. One SIGCHLD may stand for several of them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is not None:  # else it is a successor that failed to start
                try:
                    self._on_death(child, os.waitstatus_to_exitcode(status))
                except Exception:
                    internal_errors.record("master.on_death")
                    internal_errors.guarded("master.on_death", child.peer.close)()
                    self._start_later(child)

    def _on_death(self, child: Child, status: int) -> None:
        child.has_ended = True
        internal_errors.guarded("master.read_rest", child.peer.read_rest)()
        attempts = Attempts("master.on_death")
        attempts.make(child.peer.close)
        attempts.make(self._client_counts.clear_worker, child.number)
        attempts.make(self._rpc.on_death, child)
        if self._ending:
            return
        reason = child.failure or (f"signal {-status}" if status < 0 else f"status {status}")
        if not child.ready:
            self._failed[child.number] = self._failed.get(child.number, 0) + 1
            none_is_ready = not any(one.ready for one in self._children.values())
            if not self._all_were_ready or (none_is_ready and self._failed[child.number] >= ATTEMPTS):
                self._give_up(f"a worker cannot start: {reason}" if child.failure is None else child.failure)
                return
        log.error("worker died worker=%d pid=%d reason=%s again_in=%.1fs", child.number + 1, child.pid, reason, _restart_delay(child))
        self._start_later(child)

    def _start_later(self, child: Child) -> None:
        """Start another worker in place of `child`, which has ended, after its delay."""
        if not self._ending:
            delay = _restart_delay(child)
            self.loop.call_later(delay, functools.partial(self._start_again, child.number, min(delay * 2, LONGEST_DELAY)))

    def _start_again(self, number: int, delay: float) -> None:
        try:
            if not self._ending:
                self._start(number, delay)
        except Exception as error:
            if not isinstance(error, OSError):
                internal_errors.record("master.start")
            log.error("worker not started worker=%d reason='%s' again_in=%.1fs", number + 1, error, delay)
            self.loop.call_later(delay, functools.partial(self._start_again, number, min(delay * 2, LONGEST_DELAY)))

    def _give_up(self, reason: str) -> None:
        """End the service; `run` raises StartError."""
        self._failure = reason
        self._supervisor.shut_down()

    # -- WorkerGroup, for the supervisor

    def call_workers(self, command: str, arguments: list[Any], then: Callable[[list[Result]], Any]) -> None:
        self._rpc.call(command, arguments, then)

    def reconfigure(
        self, configs: Sequence[Config], addresses: Addresses, new: Mapping[str, socket.socket], then: Callable[[], None]
    ) -> None:
        self._assign_rows(configs)
        arguments = {
            "configs": [as_plain(config) for config in configs],
            "addresses": addresses,
            "new": list(new),
            "client_rows": self._client_counts.rows,
        }

        def finish(results: list[Result]) -> None:
            try:
                for result in results:
                    if "error" in result:
                        log.error("worker did not reload reason=%s", result["error"])
            finally:  # the reload must end, or every later one is refused as "in progress"
                then()

        self._rpc.call("serve", [arguments], finish, list(new.values()), starting_too=True)

    def reopen_logs(self, config: Config) -> None:
        self._set_up_logs(config)

        def finish(results: list[Result]) -> None:
            for result in results:
                if "error" in result:
                    log.error("log not reopened reason=%s", result["error"])

        self._rpc.call("reopen", [], finish, starting_too=True)

    def end_all(self, after_next_reply: bool) -> None:
        self._ending = True
        if self._control_listener is not None:
            self._control_listener.stop_accepting()
        for child in self._children.values():
            if after_next_reply and child.ready:
                child.send_command("end", [True])
            else:
                child.signal(signal.SIGTERM)
        grace = self._supervisor.configs[0].grace
        self.loop.call_later((2 * grace if after_next_reply else grace) + KILL_AFTER, self._kill_all)

    def _kill_all(self) -> None:
        for child in self._children.values():
            log.error("worker does not end worker=%d pid=%d", child.number + 1, child.pid)
            child.kill()

    def count(self) -> int:
        return self._count

    def pids(self) -> list[int]:
        return [child.pid for child in sorted(self._children.values(), key=lambda child: child.number)]


def _restart_delay(child: Child) -> float:
    """Seconds until another worker is started in place of `child`."""
    return FIRST_DELAY if time.monotonic() - child.started_at >= STEADY else child.delay

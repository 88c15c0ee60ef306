"""A service of one process: a worker with the supervisor in it. Signals, operators and timers are handled in gevent's loop."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer

from gmproxy import internal_errors
from gmproxy.config.configuration import Config
from gmproxy.errors import GmproxyError
from gmproxy.process.control_server import ControlServer
from gmproxy.process.gevent_loop import GeventLoop
from gmproxy.process.service_memory import ServiceMemory
from gmproxy.process.supervisor import POLL_INTERVAL, Supervisor
from gmproxy.process.worker import Worker, every
from gmproxy.process.worker_context import WorkerContext
from gmproxy.process.worker_group import Addresses, Result, WorkerGroup
from gmproxy.system import bootstrap
from gmproxy.system.daemon import READY
from gmproxy.transport.accept import AcceptRetry

# mypy: allow-subclassing-any
# (gevent has no type information: StreamServer is Any.)

log = logging.getLogger("gmproxy")


class _ControlListener(AcceptRetry, StreamServer):
    """Accepts operators at the control socket. Its handle, handle(sock), is called in the loop for each connection."""

    def do_handle(self, sock: socket.socket, address: Any) -> None:
        """Loop callback. Never raises: if `handle` fails the connection is closed."""
        try:
            self._handle(sock)
        except Exception:
            internal_errors.record("single_process.accept")
            sock.close()


class SingleProcess(WorkerGroup):
    """The WorkerGroup of a service with one worker, in this process. `set_up_logs(config)` opens the log."""

    def __init__(self, supervisor: Supervisor, shared: ServiceMemory, context: WorkerContext, set_up_logs: Callable[..., Any]) -> None:
        super().__init__(GeventLoop(), shared)
        self._supervisor = supervisor
        self._worker = Worker(context, set_up_logs)
        self._greenlets: list[gevent.Greenlet] = []
        self._control_server = ControlServer(self.loop, supervisor.run_command)
        self._control_listener: _ControlListener | None = None
        supervisor.workers = self

    def run(self, ready: Callable[[], None]) -> None:
        supervisor = self._supervisor
        listening = supervisor.listening_sockets
        self.reconfigure(supervisor.configs, listening.all_addresses(supervisor.configs), listening.sockets)
        on_signal = internal_errors.guarded("single_process.signal", supervisor.on_signal)
        self._greenlets.append(gevent.spawn(every, POLL_INTERVAL, supervisor.poll))
        if listening.control is not None:
            control = gevent.socket.socket(fileno=os.dup(listening.control.fileno()))
            self._control_listener = _ControlListener(control, self._control_server.accept)
            self._control_listener.start()
        notifier = supervisor.notifier
        if notifier.watchdog_interval:
            self._greenlets.append(gevent.spawn(every, notifier.watchdog_interval / 2, supervisor.notify_watchdog))

        def serving() -> None:
            supervisor.on_ready(ready)
            for number in supervisor.signals:
                gevent.signal_handler(number, on_signal, number)
            for held in bootstrap.take_held_signals():
                on_signal(held)

        self._worker.run(serving)
        gevent.killall(self._greenlets)

    # -- WorkerGroup, for the supervisor

    def reconfigure(
        self, configs: Sequence[Config], addresses: Addresses, new: Mapping[str, socket.socket], then: Callable[[], None] = lambda: None
    ) -> None:
        # Copies: the worker closes its sockets, the supervisor keeps the originals for a successor.
        copies = {address: sock.dup() for address, sock in new.items()}
        self._worker.reconfigure(configs, addresses, copies)
        then()

    def call_workers(self, command: str, arguments: list[Any], then: Callable[[list[Result]], Any]) -> None:
        """Greenlet only: blocks while the command runs."""
        try:
            result = self._worker.run_command(command, arguments)
        except (LookupError, GmproxyError) as error:
            result = {"error": str(error)}
        except Exception as error:
            internal_errors.record("single_process.call_workers", f"command={command}")
            result = {"error": repr(error)}
        then([result])

    def count(self) -> int:
        return 1

    def reopen_logs(self, config: Config) -> None:
        self._worker.set_up_logs(config)

    def end_all(self, after_next_reply: bool) -> None:
        try:
            if self._control_listener is not None:
                self._control_listener.close()
        finally:
            self._worker.end(after_next_reply)

    def pids(self) -> list[int]:
        return [os.getpid()]

    def wait_for_successor(self, descriptor: int, pid: int, then: Callable[[str | None], Any]) -> None:
        def finish(report: str | None) -> None:
            then(report)
            with contextlib.suppress(ChildProcessError):  # under systemd it is not a child of this process
                while report != READY and os.waitpid(pid, os.WNOHANG) == (0, 0):
                    gevent.sleep(POLL_INTERVAL)

        super().wait_for_successor(descriptor, pid, internal_errors.guarded("single_process.on_successor_report", finish))

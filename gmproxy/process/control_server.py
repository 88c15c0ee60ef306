"""Serves operators at the control socket, in the master and in a single process.

Only accepting differs. If no file descriptor is free, the master leaves the operator in the backlog (ControlListener); a single process
accepts with gevent's server, which disconnects the operator as it does clients (single_process.py).
"""

import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.process.peer import CLOSED, Peer
from gmproxy.system import control_socket
from gmproxy.system.control_socket import Message
from gmproxy.system.select_loop import EventLoop, SelectLoop

#: Maximum number of connected operators. For one more, the one that has been idle longest is disconnected: tools disconnect after their
#: command, so idle connections are forgotten ones.
MAX_OPERATORS = 64

#: Maximum number of commands of one operator that run at the same time; further ones are read when these have their results.
MAX_COMMANDS = 16

#: Maximum number of bytes of results waiting to be sent to one operator. A single result may be longer; the report of a few hundred
#: servers has some 100 KiB.
MAX_UNSENT = 4 * 1024 * 1024

#: Seconds after which an operator that reads none of a result is disconnected.
STALL_TIMEOUT = 10.0

log = logging.getLogger("gmproxy")

#: Gets the result of a command.
Then = Callable[[Message], Any]


class ControlServer:
    """Serves operators: reads their commands, runs them, and sends the results.

    `run_command(name, arguments, then)` runs a command and calls `then` with the result, at once or later. It is called as a task
    (EventLoop.run_task): in a single process it may block, and only later commands of the same operator wait for it.

    Loop callback or greenlet; the methods do not block.
    """

    def __init__(self, loop: EventLoop, run_command: Callable[[str, list[str], Then], Any]) -> None:
        self._loop = loop
        self._run_command = run_command
        self._operators: dict[Operator, None] = {}  # in the order of their last commands

    def accept(self, sock: socket.socket) -> None:
        """Serve the operator connected to `sock`, which is taken over."""
        if len(self._operators) >= MAX_OPERATORS:
            idle = next((operator for operator in self._operators if operator.is_idle()), None)
            log.warning("too many operators limit=%d", MAX_OPERATORS)
            if idle is None:
                sock.close()
                return
            idle.close()
        self._operators[Operator(self._loop, sock, self)] = None

    def close_in_child(self) -> None:
        """Close the descriptors of all connections, in a forked process (Peer.close_in_child)."""
        for operator in self._operators:
            operator.peer.close_in_child()

    def start_command(self, operator: "Operator", name: str, arguments: list[str], then: Then) -> None:
        """Run a command of `operator`. An Exception that it raises is recorded, and its text is the result."""
        self._operators[operator] = self._operators.pop(operator, None)
        try:
            self._run_command(name, arguments, then)
        except Exception as error:
            internal_errors.record("control_server.run_command")
            then({"error": repr(error)})

    def remove(self, operator: "Operator") -> None:
        """Forget `operator`, which is disconnected."""
        self._operators.pop(operator, None)


class ControlListener:
    """Accepts operators in the master's loop, at the socket `listening`, which stays the caller's."""

    def __init__(self, loop: SelectLoop, listening: socket.socket, server: ControlServer) -> None:
        self._loop = loop
        self._listening = listening
        self._server = server
        listening.setblocking(False)
        loop.add_reader(listening, self._accept)

    def stop_accepting(self) -> None:
        """Accept no more operators. Those that are connected are still served."""
        self._loop.remove(self._listening)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptor is free: the operator stays in the backlog
            log.warning("operator not accepted error='%s'", error)
            self._loop.pause(self._listening)
            return
        self._server.accept(sock)


class Operator:
    """One connection to the control socket."""

    def __init__(self, loop: EventLoop, sock: socket.socket, server: ControlServer) -> None:
        self._loop = loop
        self._server = server
        self._received: deque[Message] = deque()  # read and not started: at most what one read returned
        self._running = 0  # commands without a result
        self._is_ending = False  # True once no more commands are read
        self._is_starting = False  # True while a task starts received commands
        self.peer = Peer(
            loop,
            sock,
            self._on_message,
            self._on_lost,
            on_end=self._on_end,
            on_drained=self._start_commands,
            limit=control_socket.MAX_COMMAND,
            max_unsent=MAX_UNSENT,
            stall_timeout=STALL_TIMEOUT,
        )

    def is_idle(self) -> bool:
        """True if no command runs or waits, and all results are sent."""
        return not self._running and not self._received and not self.peer.unsent

    def close(self) -> None:
        """Disconnect. Results that arrive later are dropped."""
        try:
            self.peer.close()
        finally:
            self._received.clear()
            self._server.remove(self)

    def _on_message(self, message: Message) -> None:
        self._received.append(message)
        self._start_commands()

    def _start_commands(self) -> None:
        """Start received commands, as many as may run. More is read only when all of them are started."""
        if self._is_starting:  # the starting task is blocked in a command, or this is called by it with a result
            self.peer.pause_reading()
            return
        if not self._received or not self._has_room():
            self._settle()
            return
        self._is_starting = True
        try:
            self._loop.run_task(self._start_received)
        except Exception:
            self._is_starting = False
            raise

    def _start_received(self) -> None:
        try:
            while self._received and self._has_room():
                self._start(self._received.popleft())
        except Exception:
            internal_errors.record("control_server.start_commands")
            self.peer.lose("internal error")
            return
        finally:
            self._is_starting = False
        self._settle()

    def _settle(self) -> None:
        """Nothing more can be started now: read on, wait for results, or disconnect."""
        if self._received or self._is_ending or not self._has_room():
            self.peer.pause_reading()
        else:
            self.peer.resume_reading()
        if self._is_ending and self.is_idle():
            self.close()

    def _start(self, message: Message) -> None:
        self._running += 1
        then = _Once(self._on_result)
        try:
            name, arguments = control_socket.parse_command(message)
        except ValueError as error:
            self._received.clear()
            self._is_ending = True
            then({"error": str(error)})
            return
        self._server.start_command(self, name, arguments, then)

    def _has_room(self) -> bool:
        return self._running < MAX_COMMANDS and not self.peer.unsent and not self.peer.is_lost

    def _on_result(self, result: Message) -> None:
        """Send a result. Never raises, as the caller is not concerned; an operator whose result cannot be sent is disconnected."""
        try:
            self._running -= 1
            self.peer.send_message(result)
            self._start_commands()
        except Exception:
            internal_errors.record("control_server.on_result")
            self.peer.lose("internal error")

    def _on_end(self, error: str | None) -> None:
        """The operator sends no more commands, or sent what is not a message (`error`). Earlier commands still get their results."""
        self._is_ending = True
        if error is not None:
            self._running += 1
            self._on_result({"error": error})
        else:
            self._start_commands()

    def _on_lost(self, reason: str) -> None:
        if reason != CLOSED:
            log.warning("operator disconnected reason='%s'", reason)
        self.close()


class _Once:
    """Calls `then` only the first time: a command that raises after its result has one result."""

    def __init__(self, then: Then) -> None:
        self._then: Then | None = then

    def __call__(self, result: Message) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(result)

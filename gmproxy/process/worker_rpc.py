"""The master's remote procedure calls: commands to its workers, and the results of all workers for whoever called.

A message is {"ask": number, "command": name, "arguments": [...]}, its result {"answer": number, "result": {...}}. Workers call in the same
form, and get the joined result of all workers. A worker reports its start with {"ready": true} or {"failed": reason}.
"""

import contextlib
import functools
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy import internal_errors
from gmproxy.internal_errors import Attempts
from gmproxy.monitoring.control_commands import merge_responses
from gmproxy.process.counter_totals import CounterTotals
from gmproxy.process.peer import CLOSED, Peer
from gmproxy.process.worker_group import Result
from gmproxy.system.control_socket import Message
from gmproxy.system.select_loop import EventLoop

#: Seconds that a call of all workers may take; a worker that hangs is left out of the results.
CALL_TIMEOUT = 1.0

#: Bytes that may wait to be sent to a worker, and seconds in which it may read nothing of them: beyond, it hangs and is replaced.
MAX_UNSENT = 16 * 1024 * 1024
PATIENCE = 10.0

log = logging.getLogger("gmproxy")

#: What is called with the results of all workers.
Then = Callable[[list[Result]], Any]


class Child:
    """A worker as its master sees it.

    pid         of its process
    number      of the worker, from 0
    delay       seconds until it is restarted, if it dies soon
    started_at  monotonic seconds
    ready       True once it accepts clients
    has_ended   True once its process was reaped: its pid may be that of another process by now
    failure     why it could not start, if it said so
    """

    def __init__(self, pid: int, number: int, delay: float) -> None:
        self.pid = pid
        self.number = number
        self.delay = delay
        self.started_at = time.monotonic()
        self.ready = False
        self.has_ended = False
        self.failure: str | None = None
        self.peer: Peer

    def connect(self, loop: EventLoop, sock: socket.socket, on_message: "Callable[[Child, Message], Any]") -> None:
        """Exchange messages over `sock`, which becomes ours. A worker that is lost is killed."""
        self.peer = Peer(loop, sock, functools.partial(on_message, self), self._on_lost, max_unsent=MAX_UNSENT, patience=PATIENCE)

    def _on_lost(self, reason: str) -> None:
        """Its channel is closed, as its process has ended or will in a moment; or else it hangs, or sends what is not a message."""
        if reason != CLOSED:
            log.error("worker hangs worker=%d pid=%d reason='%s'", self.number + 1, self.pid, reason)
        self.kill()

    def send_command(self, command: str, arguments: list[Any]) -> None:
        """Have it run a command whose result is not needed."""
        self.peer.send_message({"ask": 0, "command": command, "arguments": arguments})

    def signal(self, number: int) -> None:
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)


class PendingCall:
    """A call of several workers, of which those in `waits_for` (pids) have no result yet."""

    def __init__(self, number: int, command: str, arguments: list[Any], waits_for: set[int], then: Then) -> None:
        self.number = number
        self.command = command
        self.arguments = arguments
        self.waits_for = waits_for
        self.then = then
        self.results: dict[int, Result] = {}  # by pid
        self.timer: Any = None


class WorkerRpc:
    """Calls of the workers `children`, {pid: Child}, which the master adds and removes. Everything is called from the loop; nothing waits."""

    def __init__(self, loop: EventLoop, children: dict[int, Child]) -> None:
        self._loop = loop
        self._children = children
        self._pending: dict[int, PendingCall] = {}  # by number
        self._numbers = itertools.count(1)
        self._totals = CounterTotals()

    def call(
        self, command: str, arguments: list[Any], then: Then, passed: Sequence[socket.socket] = (), starting_too: bool = False
    ) -> None:
        """Run a command in every worker that is ready, and in those that still start if `starting_too`. `then` gets the list of their results,
        without those that are not there in time. The sockets `passed` are passed with the command."""
        called = [child for child in self._children.values() if child.ready or starting_too]
        call = PendingCall(next(self._numbers), command, arguments, {child.pid for child in called}, then)
        if command == "reset":
            self._totals.clear()
        self._pending[call.number] = call
        call.timer = self._loop.call_later(CALL_TIMEOUT, functools.partial(self._close, call))
        for child in called:
            child.peer.send_message({"ask": call.number, "command": command, "arguments": arguments}, passed)
        if not called:
            self._close(call)

    def on_message(self, child: Child, message: Message) -> None:
        """A result, or a call of all workers by `child`. Raises KeyError for what is neither."""
        if "answer" in message:
            self._on_result(child, message["answer"], message["result"])
        else:
            self.call(message["command"], message["arguments"], functools.partial(self._forward, child, message))

    @staticmethod
    def _forward(child: Child, message: Message, results: list[Result]) -> None:
        child.peer.send_message({"answer": message["ask"], "result": merge_responses(message["command"], results)})

    def on_death(self, child: Child) -> None:
        """`child` has ended: no call waits for it any longer, and what it has counted is kept. Raises nothing."""
        attempts = Attempts("worker_rpc.on_death")
        attempts.make(self._totals.on_death, child.pid)
        for call in list(self._pending.values()):
            attempts.make(self._count_out, call, child)

    def ping_all(self, then: Callable[[], Any]) -> None:
        """Call `then` if all workers that are ready have a result in time."""
        ready = sum(child.ready for child in self._children.values())

        def check(results: list[Result]) -> None:
            if ready and len(results) >= ready:
                then()

        self.call("ping", [], check)

    def _on_result(self, child: Child, number: int, result: Result) -> None:
        call = self._pending.get(number)
        if call is not None:
            call.results[child.pid] = result
            self._totals.record(call.command, call.arguments, child.pid, result)
            self._count_out(call, child)

    def _count_out(self, call: PendingCall, child: Child) -> None:
        call.waits_for.discard(child.pid)
        if not call.waits_for:
            self._close(call)

    def _close(self, call: PendingCall) -> None:
        if self._pending.pop(call.number, None) is not None:
            self._loop.cancel(call.timer)
            self._finish(call)

    def _finish(self, call: PendingCall) -> None:
        """An exception here is no fault of the worker whose result came last."""
        try:
            call.then(self._totals.complete(call.command, call.arguments, call.results))
        except Exception:
            internal_errors.record("worker_rpc.finish")

"""Remote procedure calls of the master: sends commands to the workers and joins their results.

A call is {"call": number, "command": name, "arguments": [...]}, its result {"reply": number, "result": {...}}. A worker calls in the same
form to run a command in all workers, and gets their results merged into one. A worker reports its start with {"ready": true} or
{"failed": reason}.
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

#: Seconds that a call of all workers may take; the results are then without those of workers that have not replied.
CALL_TIMEOUT = 1.0

#: Maximum number of bytes waiting to be sent to a worker, and of seconds in which it reads none of them: beyond these it hangs and is
#: replaced.
MAX_UNSENT = 16 * 1024 * 1024
STALL_TIMEOUT = 10.0

log = logging.getLogger("gmproxy")

#: Gets the results of all workers.
Then = Callable[[list[Result]], Any]


class Child:
    """A worker process, in the master.

    pid         of the process
    number      of the worker, from 0
    delay       seconds until it is replaced if it dies soon after its start
    started_at  monotonic seconds
    ready       True once it accepts clients
    has_ended   True once its exit status was collected: the kernel may give its pid to another process
    failure     the error with which it failed to start, if it reported one
    peer        its channel, once `connect` was called

    Loop callback only; nothing here blocks.
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
        """Exchange messages over `sock`, which the Child takes over. The worker is killed when its connection is lost."""
        self.peer = Peer(loop, sock, functools.partial(on_message, self), self._on_lost, max_unsent=MAX_UNSENT, stall_timeout=STALL_TIMEOUT)

    def _on_lost(self, reason: str) -> None:
        """Kill the worker. If it closed the channel its process has ended or is about to; otherwise it hangs, or has sent what is not a message."""
        if reason != CLOSED:
            log.error("worker hangs worker=%d pid=%d reason='%s'", self.number + 1, self.pid, reason)
        self.kill()

    def send_command(self, command: str, arguments: list[Any]) -> None:
        """Run a command in this worker and ignore the result."""
        self.peer.send_message({"call": 0, "command": command, "arguments": arguments})

    def signal(self, number: int) -> None:
        """Send the signal `number`, unless the worker has ended."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless the worker has ended."""
        self.signal(signal.SIGKILL)


class PendingCall:
    """A call of several workers. `waits_for`: pids of the workers that have not replied yet."""

    def __init__(self, number: int, command: str, arguments: list[Any], waits_for: set[int], then: Then) -> None:
        self.number = number
        self.command = command
        self.arguments = arguments
        self.waits_for = waits_for
        self.then = then
        self.results: dict[int, Result] = {}  # by pid
        self.timer: Any = None


class WorkerRpc:
    """Calls of the workers `children`, {pid: Child}, a dict that the master updates. Loop callback only; nothing here blocks."""

    def __init__(self, loop: EventLoop, children: dict[int, Child]) -> None:
        self._loop = loop
        self._children = children
        self._pending: dict[int, PendingCall] = {}  # by number
        self._numbers = itertools.count(1)
        self._totals = CounterTotals()

    def call(
        self, command: str, arguments: list[Any], then: Then, passed: Sequence[socket.socket] = (), starting_too: bool = False
    ) -> None:
        """Run a command in every worker that is ready and, with `starting_too`, in those still starting. `then` gets the list of results that
        arrive within CALL_TIMEOUT, and the last known counters of the workers without one (CounterTotals). The workers receive copies of
        the sockets `passed`."""
        called = [child for child in self._children.values() if child.ready or starting_too]
        call = PendingCall(next(self._numbers), command, arguments, {child.pid for child in called}, then)
        if command == "reset":
            self._totals.clear()
        self._pending[call.number] = call
        call.timer = self._loop.call_later(CALL_TIMEOUT, functools.partial(self._close, call))
        for child in called:
            child.peer.send_message({"call": call.number, "command": command, "arguments": arguments}, passed)
        if not called:
            self._close(call)

    def on_message(self, child: Child, message: Message) -> None:
        """Process a message of `child`: a result, or a call of all workers. Raises KeyError if it is neither."""
        if "reply" in message:
            self._on_result(child, message["reply"], message["result"])
        else:
            self.call(message["command"], message["arguments"], functools.partial(self._forward, child, message))

    @staticmethod
    def _forward(child: Child, message: Message, results: list[Result]) -> None:
        child.peer.send_message({"reply": message["call"], "result": merge_responses(message["command"], results)})

    def on_death(self, child: Child) -> None:
        """`child` has ended: finish the calls that wait only for it, and keep its counters. Raises nothing."""
        attempts = Attempts("worker_rpc.on_death")
        attempts.make(self._totals.on_death, child.pid)
        for call in list(self._pending.values()):
            attempts.make(self._stop_waiting, call, child)

    def ping_all(self, then: Callable[[], Any]) -> None:
        """Call `then` if every ready worker replies within CALL_TIMEOUT; otherwise never."""
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
            self._stop_waiting(call, child)

    def _stop_waiting(self, call: PendingCall, child: Child) -> None:
        """`child` has replied or died: close the call if it waits for no other worker."""
        call.waits_for.discard(child.pid)
        if not call.waits_for:
            self._close(call)

    def _close(self, call: PendingCall) -> None:
        """End the call with the results that it has. It may be closed already."""
        if self._pending.pop(call.number, None) is not None:
            self._loop.cancel(call.timer)
            self._finish(call)

    def _finish(self, call: PendingCall) -> None:
        """Record what `then` raises here: it does not concern the worker whose result came last."""
        try:
            call.then(self._totals.complete(call.command, call.arguments, call.results))
        except Exception:
            internal_errors.record("worker_rpc.finish")

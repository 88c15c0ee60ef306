"""The control socket of a service with several workers: operators ask, the steward answers, and none of them can hold up the master."""

import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.process.peer import CLOSED, Peer
from gmproxy.system import control_socket
from gmproxy.system.select_loop import Loop

#: Operators connected at once. One more, and the one who has been idle for longest is disconnected: the tools ask and go, so these are
#: connections that were forgotten.
MAX_OPERATORS = 64

#: Questions of one operator under way at once; further ones are read when these are answered.
MAX_QUESTIONS = 16

#: Bytes of answers that may wait for one operator, beside the first: a report of a few hundred servers has some 100 KiB.
MAX_UNSENT = 4 * 1024 * 1024

#: Seconds after which an operator who takes nothing of an answer is disconnected.
PATIENCE = 10.0

log = logging.getLogger("gmproxy")

Answer = Callable[[dict], Any]


class Operators:
    """Accepts operators on the socket `listening`, which stays the caller's. `command(name, arguments, then)` answers a question: it calls
    `then` with a dict, at once or later. Everything is called from the loop."""

    def __init__(self, loop: Loop, listening: socket.socket, command: Callable[[str, list[str], Answer], Any]) -> None:
        self._loop = loop
        self._listening = listening
        self._command = command
        self._all: dict[Operator, None] = {}  # the one heard most recently last
        listening.setblocking(False)
        loop.watch(listening, self._accept)

    def stop(self) -> None:
        """Accept nobody from now on; those who are connected still get their answers."""
        self._loop.forget(self._listening)

    def abandon(self) -> None:
        """In a process that was forked: see Peer.abandon."""
        for operator in self._all:
            operator.peer.abandon()

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptor is free: the operator waits
            log.warning("operator not accepted error='%s'", error)
            self._loop.pause(self._listening)
            return
        if len(self._all) >= MAX_OPERATORS:
            idle = next((operator for operator in self._all if operator.is_idle()), None)
            log.warning("too many operators limit=%d", MAX_OPERATORS)
            if idle is None:
                sock.close()
                return
            idle.close()
        operator = Operator(self._loop, sock, self)
        self._all[operator] = None

    def ask(self, operator: "Operator", message: dict, then: Answer) -> None:
        """Raises ValueError for what is no question."""
        self._all[operator] = self._all.pop(operator, None)
        name, arguments = control_socket.question(message)
        try:
            self._command(name, arguments, then)
        except Exception as error:
            internal_errors.record("operators.ask")
            then({"error": repr(error)})

    def left(self, operator: "Operator") -> None:
        self._all.pop(operator, None)


class Operator:
    """One at the control socket."""

    def __init__(self, loop: Loop, sock: socket.socket, operators: Operators) -> None:
        self._operators = operators
        self._unasked: deque[dict] = deque()  # what was read and is not asked yet: no more than was read at once
        self._waits_for = 0
        self._is_leaving = False
        self._is_asking = False
        self.peer = Peer(loop, sock, self._heard, self._lost, ended=self._ended, sent=self._ask_more, limit=control_socket.MAX_QUESTION,
                         max_unsent=MAX_UNSENT, patience=PATIENCE)

    def is_idle(self) -> bool:
        return not self._waits_for and not self._unasked and not self.peer.unsent

    def close(self) -> None:
        self.peer.close()
        self._unasked.clear()
        self._operators.left(self)

    def _heard(self, message: dict) -> None:
        self._unasked.append(message)
        self._ask_more()

    def _ask_more(self) -> None:
        """Ask what may be asked now, and hear more only when all of that is under way."""
        if self._is_asking:
            return  # called by an answer that was there at once
        self._is_asking = True
        try:
            while self._unasked and self._has_room():
                self._ask(self._unasked.popleft())
        finally:
            self._is_asking = False
        if self._unasked or not self._has_room():
            self.peer.pause()
        elif not self._is_leaving:
            self.peer.listen()
        elif self.is_idle():
            self.close()

    def _ask(self, message: dict) -> None:
        self._waits_for += 1
        then = _Once(self._answer)
        try:
            self._operators.ask(self, message, then)
        except ValueError as error:
            self._unasked.clear()
            self._is_leaving = True
            then({"error": str(error)})

    def _has_room(self) -> bool:
        return self._waits_for < MAX_QUESTIONS and not self.peer.unsent and not self.peer.is_lost

    def _answer(self, answer: dict) -> None:
        self._waits_for -= 1
        self.peer.send(answer)
        self._ask_more()

    def _ended(self, error: str | None) -> None:
        """It says no more; what was asked before is still answered."""
        self._is_leaving = True
        if error is not None:
            self._waits_for += 1
            self._answer({"error": error})
        else:
            self._ask_more()

    def _lost(self, reason: str) -> None:
        if reason != CLOSED:
            log.warning("operator disconnected reason='%s'", reason)
        self.close()


class _Once:
    """Calls `then` the first time only."""

    def __init__(self, then: Answer) -> None:
        self._then: Answer | None = then

    def __call__(self, answer: dict) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(answer)

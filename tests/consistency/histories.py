"""What a read of a key that several clients write may return. This module only judges: it is given times, requests and replies.

Each write of a key has a number, which its value contains. Of a write, the time is known at which it was sent, and the time at which its outcome
was known to the client: a reply, an error, or the end of the connection. Write X is *overwritten* for a read if a write or a delete that was
sent after the outcome of X was known was acknowledged before the read was sent. So of writes that overlap in time none overwrites another, and
a request whose outcome is an error may be executed until a later one is acknowledged.

A counter begins with a write, its *incarnation*, and is then only counted up by one. The results of one incarnation are distinct, and a
result is larger than all results that were known when its request was sent.
"""

import threading
import time
from collections import deque
from math import inf
from typing import NamedTuple

#: The number of operations that are kept for each key, for the report of a violation.
REMEMBERED = 40

#: Seconds. No request takes longer. What was overwritten earlier is forgotten: a later read of it is stale in any case.
LONGEST_REQUEST = 60.0

#: Forgotten after this number of writes.
FORGET_EVERY = 500

FINE = "fine"
STALE = "overwritten values that were read"
REFUSED = "values of refused writes that were read"
IMPOSSIBLE = "values that were never written"
STALE_INCREMENT = "increments of an overwritten counter"
LOST_INCREMENT = "lost increments"
LOST_UPDATE = "values replaced twice by cas"
REPEATED = "appends executed twice"


class Operation(NamedTuple):
    sent: float  # time.monotonic()
    ended: float
    who: str
    what: str
    reply: str


class History:
    """What is known about one key. Any thread may call it.

    floor   the latest time at which a write or delete was sent that is acknowledged; read it before a read is sent
    """

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.floor = 0.0
        self.operations: deque[Operation] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._last = 0
        self._ended: dict[int, float] = {}
        self._refused: set[int] = set()
        self._replaced: set[bytes] = set()

    # -- writes

    def next_number(self) -> int:
        """The number of a write that is sent next."""
        with self._lock:
            self._last += 1
            self._ended[self._last] = inf
            if self._last % FORGET_EVERY == 0:
                self._forget()
            return self._last

    def acknowledged(self, sent: float, ended: float, number: int | None = None) -> None:
        """A write, or without `number` a delete, was acknowledged."""
        with self._lock:
            if number is not None:
                self._ended[number] = ended
            self.floor = max(self.floor, sent)

    def refused(self, number: int, ended: float) -> None:
        """The reply was NOT_STORED, EXISTS or NOT_FOUND."""
        with self._lock:
            self._ended[number] = ended
            self._refused.add(number)

    def unknown(self, number: int, ended: float) -> None:
        """The reply was an error, or none."""
        with self._lock:
            self._ended[number] = ended

    def replaced(self, value: bytes) -> str:
        """The verdict on an acknowledged cas with the number of `value`: each value can be replaced once."""
        with self._lock:
            if value in self._replaced:
                return LOST_UPDATE
            self._replaced.add(value)
            return FINE

    # -- reads

    def judge(self, number: int, floor: float) -> str:
        """The verdict on a read that returned the value of write `number`. `floor` is that of the time when the read was sent."""
        with self._lock:
            if not 0 < number <= self._last:
                return IMPOSSIBLE
            if number in self._refused:
                return REFUSED
            return STALE if self._ended.get(number, -inf) < floor else FINE

    def record(self, sent: float, who: str, what: str, reply: str) -> None:
        self.operations.append(Operation(sent, time.monotonic(), who, what, reply))

    def _forget(self):
        for number in [number for number, ended in self._ended.items() if ended < self.floor - LONGEST_REQUEST]:
            del self._ended[number]


class CounterHistory(History):
    """What is known about one counter. Its value is that of its incarnation, plus the increments."""

    #: Values of one incarnation.
    SPAN = 10**9

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self._highest: dict[int, int] = {}
        self._results: set[int] = set()

    def first_value(self, incarnation: int) -> int:
        return incarnation * self.SPAN

    def known(self) -> dict[int, int]:
        """{incarnation: its highest known count}. Call it before a request is sent."""
        with self._lock:
            return self._highest.copy()

    def judge_count(self, value: int, floor: float, known: dict[int, int], counted: bool) -> str:
        """The verdict on the `value` that was read, or that is the result of an incr if `counted`."""
        incarnation, count = divmod(value, self.SPAN)
        verdict = self.judge(incarnation, floor)
        if verdict != FINE:
            return STALE_INCREMENT if counted and verdict == STALE else verdict
        with self._lock:
            if count < known.get(incarnation, 0) + counted or (counted and value in self._results):
                return LOST_INCREMENT
            if counted:
                self._results.add(value)
                self._highest[incarnation] = max(count, self._highest.get(incarnation, 0))
        return FINE

    def _forget(self):
        super()._forget()
        self._highest = {number: count for number, count in self._highest.items() if number in self._ended}
        self._results = {value for value in self._results if value // self.SPAN in self._ended}

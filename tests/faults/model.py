"""What a read may return. This module only judges: it is given the requests and the replies, and sends nothing.

Every key has one writer, which numbers its writes 1, 2, 3, ... and sends one at a time. A value contains the number of the
write that stored it; the value of a counter gives its number (values.Counter). Two numbers describe a key:

    floor     the last write that was acknowledged. Older values must never be read again, even if servers fail
    ceiling   the last write that was sent. Newer values do not exist

A read that was sent while the floor was f may return

    nothing                     a cache may always lose an item
    a number from f on          f itself; or a later one, whose reply was an error, or had not arrived yet: it may have been executed

and nothing else. After two writes whose replies were errors, reads may return either value, also first one and later the other:
an error guarantees nothing. Once a newer write is acknowledged, neither value may be returned, although the request for it may still be in
the buffers of a server that hangs.

A refused write (NOT_STORED, EXISTS, NOT_FOUND) does not change the floor, and its value must never be read. Nor may the number of a
delete.

A list contains the numbers of all its writes since the set that began it. It is judged by its last number; and every acknowledged write
between its first and its last number must be in it, otherwise a server appended to a stale value.
"""

import time
from collections import deque
from typing import NamedTuple

#: The number of operations that are kept for each key, for the report of a violation.
REMEMBERED = 60

FINE = "fine"
STALE = "stale"  # older than an acknowledged write
LOST = "lost"  # of a list: an acknowledged write before its last one is not in it
REFUSED = "refused"  # of a write that was refused
IMPOSSIBLE = "impossible"  # was never written


class Operation(NamedTuple):
    sent: float  # time.monotonic()
    answered: float
    who: str
    what: str
    answer: str


class Ledger:
    """What is known about one key."""

    def __init__(self, key):
        self.key = key
        self.floor = 0
        self.ceiling = 0
        self.operations = deque(maxlen=REMEMBERED)
        self._void = set()  # numbers under which no value was stored, or none that may be seen
        self._made = set()  # of a list: the numbers of acknowledged writes since the last acknowledged set or delete

    # -- the writer's side

    def next_number(self):
        """The number of a write that is sent next."""
        self.ceiling += 1
        return self.ceiling

    def next_delete(self):
        number = self.next_number()
        self._void.add(number)
        return number

    def acknowledged(self, number):
        self.floor = number

    def began(self, number):
        """A set or a delete of a list was acknowledged: earlier elements are gone."""
        self.acknowledged(number)
        self._made = {number}

    def appended(self, number):
        """An append to a list was acknowledged."""
        self.acknowledged(number)
        self._made.add(number)

    def refused(self, number):
        self._void.add(number)

    def counted(self, number):
        """The reply to an incr or decr by one was that of write `number`. Returns the verdict: FINE; STALE if a stale value was counted;
        IMPOSSIBLE if the counter was counted more often than requests were sent."""
        if number > self.ceiling:
            return IMPOSSIBLE
        if number <= self.floor:
            return STALE
        self.floor = number
        return FINE

    # -- the reader's side

    def judge(self, number, floor):
        """The verdict on a read that was sent while the floor was `floor`, and returned `number`."""
        if number > self.ceiling or number < 1:
            return IMPOSSIBLE
        if number < floor:
            return STALE
        if number in self._void:
            return REFUSED
        return FINE

    def judge_list(self, numbers, floor):
        """The verdict on a read that returned a list of `numbers`."""
        verdict = self.judge(numbers[-1], floor)
        if verdict != FINE:
            return verdict
        if any(number in self._void for number in numbers):
            return REFUSED
        present = set(numbers)
        lost = any(numbers[0] < made < numbers[-1] and made not in present for made in self._made)
        return LOST if lost or numbers != sorted(present) else FINE

    # -- for the record

    def record(self, sent, who, what, answer):
        self.operations.append(Operation(sent, time.monotonic(), who, what, answer))

"""What a read may return. Pure: it is given the requests and the replies, and judges.

Every key has one writer, which numbers its changes 1, 2, 3, ... and asks for one at a time. A value carries the number of the
write that stored it; that of a counter is its number. So what is known about a key is two numbers:

    floor     the last change that was acknowledged. What is older is gone for good, whatever happens to the servers
    ceiling   the last change that was asked for. What is newer does not exist

A read that was sent when the floor stood at f may find

    nothing                     a cache may always forget
    a number from f on          f itself; or a later one, whose answer was an error, or had not come yet: it may have happened

and nothing else. Of two changes that were answered with errors either may be seen, the other one later, too: nobody promised
anything. Once a newer change is acknowledged, neither may come back, though it may still lie in the buffers of a server that hangs.

A change that was answered with a no (NOT_STORED, EXISTS, NOT_FOUND) leaves the floor where it was, and its value must never be
seen. Neither must a number that a delete has used.

A list has the numbers of all its writes since the set that began it. It is what its last number is; and every acknowledged change between
its first and its last number must be in it, or it was appended to an old value.
"""

import time
from collections import deque
from typing import NamedTuple

#: So many of the last operations on a key are kept, to be shown when one goes wrong.
REMEMBERED = 60

FINE = "fine"
STALE = "stale"  # older than an acknowledged change
LOST = "lost"  # of a list: an acknowledged change before its last one is not in it
REFUSED = "refused"  # of a write that was answered with a no
IMPOSSIBLE = "impossible"  # nobody ever wrote that


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
        self._made = set()  # of a list: the numbers of acknowledged changes since the last acknowledged set or delete

    # -- the writer's side

    def next_number(self):
        """The number of a change that is about to be asked for."""
        self.ceiling += 1
        return self.ceiling

    def next_delete(self):
        number = self.next_number()
        self._void.add(number)
        return number

    def acknowledged(self, number):
        self.floor = number

    def began(self, number):
        """A set or a delete of a list was acknowledged: what was there before is gone."""
        self.acknowledged(number)
        self._made = {number}

    def appended(self, number):
        """An append to a list was acknowledged."""
        self.acknowledged(number)
        self._made.add(number)

    def refused(self, number):
        self._void.add(number)

    def counted(self, number):
        """A counter was acknowledged to stand at `number`, the answer to an incr by one. Returns what that is: FINE, or STALE if
        it had counted from an old value, or IMPOSSIBLE if it has counted more often than it was asked to."""
        if number > self.ceiling:
            return IMPOSSIBLE
        if number <= self.floor:
            return STALE
        self.floor = number
        return FINE

    # -- the reader's side

    def judge(self, number, floor):
        """What it is to find `number` by a read that was sent when the floor stood at `floor`."""
        if number > self.ceiling or number < 1:
            return IMPOSSIBLE
        if number < floor:
            return STALE
        if number in self._void:
            return REFUSED
        return FINE

    def judge_list(self, numbers, floor):
        """The same for a list of `numbers`."""
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

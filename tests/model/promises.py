"""What a client may receive. Pure: it is given the requests, their times and the replies, and judges.

All that the clients of a service were told of one key must be what *one* memcached could have told them, which executes each command at some
moment between its request and its reply: the history is linearizable (Herlihy and Wing, 1990). As in every cache some more is allowed:

    a miss       is always an honest answer, though the value may be found later: NOT_FOUND, NOT_STORED, END ...
    an error     leaves open whether the command is ever executed; but no more once a change is acknowledged that was requested after the error
    EXISTS       is, too: to a cas it says that the client should read again

So a value is *old* if no such order explains that it was read: it was replaced by a change that was acknowledged before the read began.
"""

from functools import lru_cache
from typing import NamedTuple

#: A value; None: there is none.
Value = bytes | None


class Operation(NamedTuple):
    """What one client asked of one key.

    kind        what it does, see `_after`
    argument    the value it stores, adds, or appends
    expected    of a cas: the value that its client has seen
    outcome     HIT (it was done, or a value was found), MISS, ERROR
    found       the value that was read, or the number that was counted to; None: it was not told
    began, ended   when it was requested and answered: numbers that only their order means something of
    client, turn   whose it is, and its place among those: one client's operations are executed in the order in which it asked
    """

    kind: str
    argument: bytes
    expected: Value
    outcome: str
    found: Value
    began: int
    ended: int
    client: int
    turn: int


HIT, MISS, ERROR = "hit", "miss", "error"

IMPOSSIBLE = object()  # no Value


def in_order(history: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The same history, with the smallest numbers for its times that have the same order."""
    times = sorted({time for operation in history for time in (operation.began, operation.ended)})
    ranks = {time: rank for rank, time in enumerate(times)}
    return tuple(each._replace(began=ranks[each.began], ended=ranks[each.ended]) for each in history)


def explain(history: tuple[Operation, ...], initial: Value) -> bool:
    """True if there is an order that explains what the clients were told of a key that had the value `initial`."""
    return _explain(in_order(history), initial)


def excuse(history: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The same history without what is not promised once a server has failed.

    An incr and a conditional write (cas, add, replace) of one key at the same moment: the conditional write was made on the primary, and its value
    was not copied yet. If the primary fails now, the backup answers the incr, from the value before. What is stored is right: as the order
    is not known, the key is deleted on both. But the number that the client of the incr was told is not checked.
    """
    conditional = [each for each in history if each.kind in ("cas", "add", "replace")]
    return tuple(
        each._replace(found=None)
        if each.kind == "count" and any(each.began < other.ended and other.began < each.ended for other in conditional)
        else each
        for each in history
    )


@lru_cache(maxsize=100_000)
def _explain(history: tuple[Operation, ...], value: Value) -> bool:
    """The same; of all histories that differ in their times only, and not in the order of these, one is judged."""
    certain = [operation for operation in history if operation.outcome != ERROR]
    if not certain:
        return True
    for operation in history:
        if any(_precedes(other, operation) for other in certain):
            continue
        after = _after(operation, value)
        if after is IMPOSSIBLE:
            continue
        rest = tuple(other for other in history if other is not operation and not _makes_impossible(operation, other))
        if _explain(rest, after):
            return True
    return False


def _precedes(one: Operation, other: Operation) -> bool:
    return one.ended < other.began or (one.client == other.client and one.turn < other.turn)


def _makes_impossible(done: Operation, other: Operation) -> bool:
    """True if `other` failed, and will not be executed any more now that `done` is."""
    return other.outcome == ERROR and done.outcome == HIT and done.kind in CHANGES and other.ended < done.began


CHANGES = frozenset(("set", "add", "replace", "append", "count", "delete", "cas"))


def _after(operation: Operation, value: Value) -> Value | object:
    """The value after `operation` on a key that has `value`; IMPOSSIBLE if it could not have had that outcome."""
    kind, argument, expected, outcome, found, *_ = operation
    if kind == "delete":
        return None  # a miss as well: it is not there afterwards
    if outcome == MISS:
        return IMPOSSIBLE if kind == "add" and value is None else value  # add alone says by its miss that there is something
    if kind in ("set", "add"):  # what was there may have been lost: this is a cache
        return argument
    if value is None:
        return IMPOSSIBLE
    if kind == "replace":
        return argument
    if kind == "append":
        return value + argument
    if kind == "cas":
        return argument if value == expected else IMPOSSIBLE
    if kind == "count":
        counted = b"%d" % (int(value) + int(argument)) if value.isdigit() else None
        return counted if counted is not None and found in (counted, None) else IMPOSSIBLE
    return value if found in (value, None) else IMPOSSIBLE  # read, touch

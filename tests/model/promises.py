"""What a client may receive. This module only judges: it is given the requests, their times and the replies, and sends nothing.

All replies about one key must be possible replies of *one* memcached, which executes each command at some time between its request and its
reply: the history is linearizable (Herlihy and Wing, 1990). Because this is a cache, more is allowed:

    a miss       is always allowed, even if a later read finds the value: NOT_FOUND, NOT_STORED, END ...
    an error     means that the command may be executed, now or later; but not after a later write is acknowledged that was sent after the error
                 A client whose worker has died has an error that ends when another worker has taken over what that has left
    EXISTS       is always allowed: the client of the cas should read again

So a value is *stale* if no such order explains the read: the value was replaced by a write that was acknowledged before the read was sent.
"""

from functools import lru_cache
from typing import NamedTuple

#: A value, or None if the key has none.
Value = bytes | None


class Operation(NamedTuple):
    """One command of one client on one key.

    kind        what it does; see `_after`
    argument    the value that it stores or appends, or the number that it adds
    expected    of a cas: the value that its client has read
    outcome     HIT (it was executed, or a value was found), MISS, ERROR
    found       the value that was read, or the new value of the counter; None if the reply does not contain it
    began, ended   when the request was sent and the reply received: only the order of these numbers matters
    client, turn   its client, and its index among this client's commands, which are executed in the order in which they were sent
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

IMPOSSIBLE = object()  # not a Value


def in_order(history: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The same history with the times replaced by their ranks."""
    times = sorted({time for operation in history for time in (operation.began, operation.ended)})
    ranks = {time: rank for rank, time in enumerate(times)}
    return tuple(each._replace(began=ranks[each.began], ended=ranks[each.ended]) for each in history)


def explain(history: tuple[Operation, ...], initial: Value) -> bool:
    """True if an order of the commands explains all replies about a key that had the value `initial`."""
    return _explain(in_order(history), initial)


def excuse(history: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The same history without what gmproxy does not guarantee after a failure of a server.

    An incr and a conditional write (cas, add, replace) of one key at the same time: the primary has executed the conditional write, but the backup
    has not received the copy. If the primary fails now, the backup executes the incr with the previous value. The stored values are right: as
    the order is not known, the key is deleted on both servers. But the number in the reply to the incr is not checked.
    """
    conditional = [each for each in history if each.kind in ("cas", "add", "replace")]
    return tuple(
        each._replace(found=None)
        if each.kind == "count" and any(each.began < other.ended and other.began < each.ended for other in conditional)
        else each
        for each in history
    )


def stays_resurrected(history: tuple[Operation, ...], read: Operation, initial: Value) -> bool:
    """True if `read`, after the end of all of `history`, has found a value that was overwritten or deleted. The guarantee for two proxies.

    What the clients have read does not matter: while a value that is filled is verified, it may be returned once more. Each read at the end is
    judged alone: after two writes at the same time through two proxies, the primary may have the value of one and the backup that of the other. "At
    the same time": a write has not ended (`ended`) before its copy has arrived on the backup, although it may be acknowledged before. If one of the
    two depends on the previous value, as incr does, its result may be another one on each server.
    """
    changes = tuple(each._replace(found=None) for each in history if each.kind in CHANGES)
    if any(_overlap(one, other) and not OVERWRITES.issuperset((one.kind, other.kind)) for one in changes for other in changes):
        return False  # each server has a value of its own
    return not explain((*changes, read), initial)


@lru_cache(maxsize=100_000)
def _explain(history: tuple[Operation, ...], value: Value) -> bool:
    """The same for a history with ranks: histories whose times have the same order are judged once."""
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


def _overlap(one: Operation, other: Operation) -> bool:
    return one.client != other.client and one.began < other.ended and other.began < one.ended


def _makes_impossible(done: Operation, other: Operation) -> bool:
    """True if `other` had an error, and must not be executed after `done`."""
    return other.outcome == ERROR and done.outcome == HIT and done.kind in CHANGES and other.ended < done.began


CHANGES = frozenset(("set", "add", "replace", "append", "count", "delete", "cas"))

#: Changes whose result does not depend on the previous value.
OVERWRITES = frozenset(("set", "delete"))


def _after(operation: Operation, value: Value) -> Value | object:
    """The value after `operation` on a key that has `value`; IMPOSSIBLE if the operation cannot have its outcome then."""
    kind, argument, expected, outcome, found, *_ = operation
    if kind == "delete":
        return None  # also after a miss: the key has no value then
    if outcome == MISS:
        return IMPOSSIBLE if kind == "add" and value is None else value  # only a miss of add shows that the key has a value
    if kind in ("set", "add"):  # a cache may lose a value, so an add may always succeed
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

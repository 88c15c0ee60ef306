"""Which servers are ejected: decided once for all workers.

A worker that ejects or restores a server writes that to shared memory before it acts on it, and every other worker follows before it routes its next
request. So no two requests that were routed one after the other go to a server and to its stand-in.

Each server has an *epoch*: odd while it is ejected. Two workers that decide the same at once write the same number. A *stamp* changes with every
epoch, so that a worker has one number to look at for each request, and not one for each server.
"""

from time import monotonic_ns

from gmproxy.shared.memory import SharedMemory

#: The lower bits of a stamp have the column of the worker that has written it, so that no two workers write the same stamp.
_COLUMN_BITS = 10


class Ejections:
    """Of one server, in all workers. Methods: loop callback or greenlet; none blocks or raises."""

    __slots__ = ("_memory", "_row", "_column", "_seen")

    def __init__(self, memory: SharedMemory, row: int, column: int) -> None:
        self._memory = memory
        self._row = row
        self._column = column
        self._seen = 0  # the epoch that this worker has followed

    def is_ejected(self) -> bool:
        return bool(self._memory.epochs[self._row] & 1)

    def publish(self, ejected: bool) -> None:
        """This worker ejects or restores the server."""
        epoch = self._memory.epochs[self._row]
        if bool(epoch & 1) != ejected:
            epoch = epoch + 1 & 0xFFFFFFFF
            self._memory.epochs[self._row] = epoch
            self._memory.stamp[0] = monotonic_ns() << _COLUMN_BITS & (1 << 63) - 1 | self._column
        self._seen = epoch

    def follow(self) -> bool | None:
        """True if another worker has ejected the server since the last call of `follow` or `publish`, False if it has restored it; None if nothing
        has changed."""
        epoch = self._memory.epochs[self._row]
        if epoch == self._seen:
            return None
        self._seen = epoch
        return bool(epoch & 1)


class Followers:
    """Which workers have followed the ejections of one pool. One that has not may have keys on a stand-in server that are stale by now: it deletes
    them there as soon as it has. Methods: loop callback or greenlet; none blocks or raises."""

    __slots__ = ("_memory", "_followed", "_column")

    def __init__(self, memory: SharedMemory, row: int, column: int) -> None:
        """`row`: of the pool."""
        self._memory = memory
        self._followed = memory.followed_of(row)
        self._column = column

    def publish(self, stamp: int) -> None:
        """This worker has followed all ejections until `stamp`."""
        self._followed[self._column] = stamp

    def all_have_followed(self, states: memoryview) -> bool:
        """True if all workers have followed that have a number other than 0 in `states`, which has one for each column."""
        stamp = self._memory.stamp[0]
        for column in range(self._memory.columns_used[0]):
            if column != self._column and states[column] and self._followed[column] != stamp:
                return False
        return True

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

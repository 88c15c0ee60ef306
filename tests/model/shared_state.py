"""What the workers of one service share. The only place that makes the contexts of workers."""

import fcntl
import os
from functools import cache
from types import SimpleNamespace
from typing import Any

from gmproxy.process.dump_locks import DumpLocks
from gmproxy.process.worker_context import WorkerContext
from gmproxy.shared import memory as memory_module
from gmproxy.shared.changes import slot_of
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import STAND_IN
from gmproxy.shared.memory import BYTES_PER_KEY, FREE, SLOTS, WORDS_PER_SLOT, SharedMemory
from model.clients import KEY, OTHER
from model.tracked import CAN_TRACK, Accesses, untracked

#: The slots that the commands of the model use.
_SLOTS_USED = (slot_of(KEY), slot_of(OTHER), SLOTS)  # the last one stands for all keys

#: The lower half of a word: what is under way.
_UNDER_WAY = (1 << 32) - 1

_EMPTY_SLOT = memoryview(bytes(WORDS_PER_SLOT * 8)).cast("Q")

#: No path has more keys in flight.
_BYTES_OF_KEYS = 64 * BYTES_PER_KEY

#: Nobody lists keys in the model. Each has a file, so there is one for all worlds.
_DUMP_LOCKS = DumpLocks()


#: Of all services.
ACCESSES = Accesses()


class SharedState:
    """The contexts of the workers of one service, and the memory that they share.

    contexts   of the workers, by number
    """

    def __init__(self, number: int, workers: int) -> None:
        """`number`: of the service. Each world begins with empty memory."""
        self._memories = _memories_of(number, workers)
        _wipe(self._memories)
        self.contexts = [
            WorkerContext(number, workers, shared=SharedColumn(memory), dump_locks=_DUMP_LOCKS)
            for number, memory in enumerate(self._memories)
        ]

    def snapshot(self) -> Any:
        """The content of the shared memory. Two equal snapshots mean that it has not changed."""
        memory = self._memories[0]
        columns = range(memory.columns_used[0])
        return (
            [self._words(column, slot) for column in columns for slot in _SLOTS_USED],
            [memory._status[column] for column in columns],
            untracked(memory.stamp)[0],
            [(untracked(memory.epochs)[row], self._marks(row, column)) for row in range(memory._rows_used[0]) for column in columns],
        )

    def _words(self, column: int, slot: int) -> list[int]:
        begin = (column * (SLOTS + 1) + slot) * WORDS_PER_SLOT
        return list(untracked(self._memories[0].cells)[begin : begin + WORDS_PER_SLOT])

    def _marks(self, row: int, column: int) -> Any:
        memory = self._memories[0]
        state = untracked(memory.states_of(row))[column]
        return state, state and memory.parts_of(row)[column].tobytes()

    def has_died(self, number: int) -> None:
        """The worker `number` has died, so its locks are released."""
        _locks.release(self._memories[number].descriptor)

    def held(self) -> list[str]:
        """What the shared memory still holds when no request is in progress, as text; must be empty."""
        memory = self._memories[0]
        columns = range(memory.columns_used[0])
        found = []
        if any(word & _UNDER_WAY for column in columns for slot in _SLOTS_USED for word in self._words(column, slot)):
            found.append("a change or a fill is still noted")
        # A stand-in keeps its keys until they are written on their own server.
        rows = [row for each in self._memories for name, row in each.rows.items() if f" {STAND_IN} " not in name]
        if any(memory.states_of(row)[column] for row in rows for column in columns):
            found.append("keys are still marked as to be deleted")
        if any(memory.epochs[row] & 1 for row in range(memory._rows_used[0])):
            found.append("a server is ejected in the shared memory")
        if any(memory._status[column] and not _locks.is_locked(memory.descriptor, column) for column in columns):
            found.append("an orphaned column was not adopted")
        return found


@cache
def _memories_of(number: int, workers: int) -> list[SharedMemory]:
    """The memory of a service, as each process maps it. It is made once for all worlds: it has files, and many pages."""
    first = SharedMemory.create(workers)
    memories = [first, *(SharedMemory(os.dup(first.descriptor)) for _ in range(1, workers))]
    if CAN_TRACK:
        for memory in memories:
            ACCESSES.track(memory, number)
    return memories


def _wipe(memories: list[SharedMemory]) -> None:
    memory = memories[0]
    for column in range(memory.columns_used[0]):
        for slot in _SLOTS_USED:
            begin = (column * (SLOTS + 1) + slot) * WORDS_PER_SLOT
            memory.cells[begin : begin + WORDS_PER_SLOT] = _EMPTY_SLOT
        for row in range(memory._rows_used[0]):
            memory.states_of(row)[column] = memory.epochs[row] = 0
        memory.keys_of(column)[:_BYTES_OF_KEYS] = bytes(_BYTES_OF_KEYS)
        memory._status[column] = FREE
    memory.columns_used[0] = memory._rows_used[0] = memory.stamp[0] = 0
    for each in memories:
        each.rows.clear()
        each._mine.clear()
        _locks.release(each.descriptor)


class _Locks:
    """Record locks. Those of POSIX belong to a process; all workers of the model are in one. So each has a descriptor of its own for the shared
    memory, and these locks belong to the descriptor. `lockf` replaces fcntl.lockf."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, int], int] = {}  # {(inode, byte): descriptor}

    def lockf(self, descriptor: int, operation: int, length: int, byte: int) -> None:
        lock = os.fstat(descriptor).st_ino, byte
        owner = self._owners.get(lock)
        if owner not in (None, descriptor):
            raise BlockingIOError("another worker holds the lock")
        if operation == fcntl.LOCK_UN:
            self._owners.pop(lock, None)
        else:
            self._owners[lock] = descriptor

    def is_locked(self, descriptor: int, byte: int) -> bool:
        return (os.fstat(descriptor).st_ino, byte) in self._owners

    def release(self, descriptor: int) -> None:
        """The worker with this descriptor has ended."""
        self._owners = {lock: owner for lock, owner in self._owners.items() if owner != descriptor}


_locks = _Locks()

#: (module, name, what replaces it): locks, and memory of a size that can be made for each path.
REPLACED: list[tuple[Any, str, Any]] = [
    (memory_module, "MIN_COLUMNS", 2),
    (memory_module, "COLUMNS_PER_WORKER", 1),
    (memory_module, "MAX_ROWS", 16),
    (memory_module, "fcntl", SimpleNamespace(lockf=_locks.lockf, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, LOCK_UN=fcntl.LOCK_UN)),
]

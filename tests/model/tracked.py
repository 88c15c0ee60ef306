"""Which numbers of the shared memory an event reads and changes. The extensions read it as C arrays: then nothing is known, and each event that lets
a worker act is taken to read and, if anything has changed, to change all of it."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from gmproxy.shared.changes import ChangeNotes
from gmproxy.shared.memory import SharedMemory

#: True in the pure build.
CAN_TRACK = isinstance(ChangeNotes.begin_change, FunctionType)

#: The tables of SharedMemory that workers read while they serve clients.
_TABLES = ("cells", "stamp", "epochs", "_states", "_parts")


class Accesses:
    """What was read and changed since `clear`: names of numbers."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.changed: set[str] = set()

    def clear(self) -> None:
        self.read.clear()
        self.changed.clear()

    def track(self, memory: SharedMemory, service: int) -> None:
        """Note each access to the tables of `memory` from now on. `service`: the number of its service."""
        for table in _TABLES:
            setattr(memory, table, _Tracked(getattr(memory, table), f"{service}.{table}", 0, self))


class _Tracked:
    """A memoryview of one table. `begin`: its first index there."""

    def __init__(self, view: memoryview, table: str, begin: int, accesses: Accesses) -> None:
        self.view = view
        self._table = table
        self._begin = begin
        self._accesses = accesses

    def __len__(self) -> int:
        return len(self.view)

    def _name(self, index: int) -> str:
        return f"{self._table}.{self._begin + index}"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            begin, _, _ = index.indices(len(self.view))
            return _Tracked(self.view[index], self._table, self._begin + begin, self._accesses)
        self._accesses.read.add(self._name(index))
        return self.view[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            for at, number in zip(range(*index.indices(len(self.view))), value):
                self[at] = number
        elif self.view[index] != value:
            self._accesses.changed.add(self._name(index))
            self.view[index] = value

    def tobytes(self) -> bytes:
        return self.view.tobytes()

    def cast(self, format: str) -> memoryview:
        """For the code that wipes a column: that is not tracked."""
        return self.view.cast(format)


def untracked(view: Any) -> memoryview:
    """`view` without noting accesses to it."""
    return view.view if isinstance(view, _Tracked) else view

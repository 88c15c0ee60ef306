"""What one process has in the shared memory of its service: its column of every table, and its journal."""

from functools import cache
from typing import Any

from gmproxy.shared.changes import ChangeNotes
from gmproxy.shared.ejections import Ejections
from gmproxy.shared.invalidation_marks import InvalidationMarks
from gmproxy.shared.keys_in_flight import KeysInFlight
from gmproxy.shared.memory import SharedMemory


class SharedColumn:
    """
    memory    the SharedMemory
    number    of the column
    notes     the ChangeNotes of this process
    journal   its journal of pending invalidations (gmproxy.shared.journal.Journal), or None

    Methods: at start-up or a reload, in a greenlet; they may block for gmproxy.shared.memory.LOCK_PATIENCE.
    """

    def __init__(self, memory: SharedMemory, number: int, keys: memoryview, journal: Any = None) -> None:
        """`keys`: the memory for the keys in flight."""
        self.memory = memory
        self.number = number
        self.notes = ChangeNotes(memory, number, KeysInFlight(keys))
        self.journal = journal

    def marks_of(self, server: str) -> InvalidationMarks | None:
        """The marks for the server with this server_name; None if there are no more rows."""
        row = self.memory.row_of(server)
        return None if row is None else InvalidationMarks(self.memory, row, self.number)

    def ejections_of(self, server: str) -> Ejections | None:
        row = self.memory.row_of(server)
        return None if row is None else Ejections(self.memory, row, self.number)


@cache
def private_column() -> SharedColumn:
    """For a process that shares nothing, such as a test of one part."""
    memory = SharedMemory.create()
    (number,) = memory.claim()
    return SharedColumn(memory, number, memory.keys_of(number))

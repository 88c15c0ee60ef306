"""What one process has in the shared memory of its service: its column of every table, its keys in flight, and its journal."""

from typing import Any, NamedTuple

from gmproxy.shared import keys_file
from gmproxy.shared.changes import ChangeNotes
from gmproxy.shared.ejections import Ejections, Followers
from gmproxy.shared.invalidation_marks import InvalidationMarks
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.keys_in_flight import KeysInFlight
from gmproxy.shared.memory import SharedMemory


class Left(NamedTuple):
    """What a process that has ended has left.

    pending          its pending invalidations (gmproxy.shared.journal_format.Pending); None if it had no journal
    keys_in_flight   the memory of its keys in flight
    """

    pending: Any
    keys_in_flight: list[memoryview]


class SharedColumn:
    """
    memory    the SharedMemory
    number    of the column
    notes     the ChangeNotes of this process
    journal   its gmproxy.shared.journal.Journal, or None

    Methods: at start-up or a reload, or in a greenlet; they may block for gmproxy.shared.memory.LOCK_PATIENCE, and for the disk.
    """

    def __init__(self, memory: SharedMemory, directory: JournalDirectory | None = None) -> None:
        """Claim a column of `memory`. `directory`: of the journal, or None. Raises StartError if there is no free column."""
        self.memory = memory
        self._directory = directory
        (self.number,) = memory.claim()
        keys = None if directory is None else keys_file.create(directory, self.number)
        self._keys = KeysInFlight(memory.keys_of(self.number) if keys is None else keys)
        self.notes = ChangeNotes(memory, self.number, self._keys)
        self.journal = None if directory is None else directory.journal(self.number)
        self.notes.journal = self.journal

    def marks_of(self, server: str) -> InvalidationMarks | None:
        """The marks for the server with this server_name; None if there are no more rows."""
        row = self.memory.row_of(server)
        return None if row is None else InvalidationMarks(self.memory, row, self.number)

    def ejections_of(self, server: str) -> Ejections | None:
        """As `marks_of`."""
        row = self.memory.row_of(server)
        return None if row is None else Ejections(self.memory, row, self.number)

    def followers_of(self, pool: str) -> Followers | None:
        """As `marks_of`, for the pool with this name."""
        row = self.memory.row_of(f"{pool} pool")
        return None if row is None else Followers(self.memory, row, self.number)

    def left_by(self, number: int) -> Left:
        """What the process that has ended has left in the column `number`. Raises nothing."""
        keys = [self.memory.keys_of(number)]
        if self._directory is None or not self._directory.usable:  # the marks in memory say what was pending
            return Left(None, keys)
        of_file = keys_file.read(self._directory, number)
        return Left(self._directory.read(number), keys if of_file is None else [*keys, of_file])

    def forget(self, number: int) -> None:
        """What was left in the column `number` was taken over."""
        if self._directory is not None:
            self._directory.erase(number)
            keys_file.remove(self._directory, number)
        self.memory.free(number)

    def release(self, is_settled: bool) -> None:
        """This process ends. `is_settled`: False if it has pending invalidations. What it leaves is taken over by another process."""
        if self.journal is not None:
            self.journal.close()
            self.notes.journal_written()
        if is_settled and self._keys.is_empty():
            self.forget(self.number)
        else:
            self.memory.leave(self.number)

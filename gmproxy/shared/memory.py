"""The memory that all processes of a service share: one memfd, made before the workers are forked, and passed on at an upgrade.

Each process that serves clients has a *column* in every table, and writes only there, so the tables need no locks. It claims a free column when it
starts, and holds a record lock on it as long as it lives. If a column is neither free nor locked, its process has ended, whatever the reason, and
left something behind: the column is an *orphan*, and another process adopts it (gmproxy.process.orphans).
"""

import fcntl
import hashlib
import mmap
import os
import struct
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from gmproxy.errors import StartError

#: Number of columns at least; and columns for each worker: at an upgrade, the workers of both processes have one.
MIN_COLUMNS = 64
COLUMNS_PER_WORKER = 4

#: Maximum number of rows: of servers, in all pools and roles, since the start of the service. Of other servers nothing is shared.
MAX_ROWS = 4096

#: A key belongs to one of this number of slots, by its hash (gmproxy.shared.changes). One more slot stands for all keys.
SLOTS = 1 << 16

#: Numbers of a slot: 64 bits each.
WORDS_PER_SLOT = 3

#: The keys of a server are divided into this number of parts, by their hash (gmproxy.shared.invalidation_marks): a bit for each.
PARTS = 1024
BYTES_OF_PARTS = PARTS // 8

#: Keys in flight of a column, and the bytes of each (gmproxy.shared.keys_in_flight).
KEYS_IN_FLIGHT = 8192
BYTES_PER_KEY = 256

#: Seconds to wait for the lock of the whole memory. It is held for microseconds, but a process may be stopped meanwhile.
LOCK_PATIENCE = 2.0
LOCK_INTERVAL = 0.001

FREE, USED = range(2)

#: Which half of a number has its lower bits.
_LOWER_HALF = 0 if sys.byteorder == "little" else 1

_PAGE = 4096
_HEADER = struct.Struct("<8sII")
_MAGIC = b"gmproxy\1"
_DIGEST = 16

#: Offsets in the first page: the number of columns that were ever used, the number of rows, and the stamp of gmproxy.shared.ejections.
_COLUMNS_USED, _ROWS_USED, _STAMP = 64, 72, 80


class SharedMemory:
    """
    descriptor     of the memfd
    columns        number of columns
    columns_used   memoryview of one number: only columns below it were ever used
    rows           {name of a server: its row}, as far as this process has looked them up
    cells          the words of all slots: index `(column * (SLOTS + 1) + slot) * WORDS_PER_SLOT`
    stamp, epochs  see gmproxy.shared.ejections

    The methods do not block, except those that say so.
    """

    def __init__(self, descriptor: int) -> None:
        """Map the memory of `descriptor`, which is owned by this object from now on. Raises StartError if it is none, or of another version."""
        self.descriptor = descriptor
        close = weakref.finalize(self, os.close, descriptor)
        try:
            self.columns = columns = _columns_of(descriptor)
        except StartError:
            close()
            raise
        self.rows: dict[str, int] = {}
        self._mine: set[int] = set()  # columns that were claimed by this process
        sizes = _sizes(columns)
        # Never closed: that would give up the locks of this process, because they belong to the file and not to the descriptor.
        memory = memoryview(mmap.mmap(descriptor, sum(sizes)))
        views = []
        begin = 0
        for size in sizes:
            views.append(memory[begin : begin + size])
            begin += size
        header, self._status, self._digests, epochs, self._states, self._parts, cells, self._keys, followed = views
        self.columns_used = header[_COLUMNS_USED : _COLUMNS_USED + 8].cast("Q")
        self._rows_used = header[_ROWS_USED : _ROWS_USED + 8].cast("Q")
        self.stamp = header[_STAMP : _STAMP + 8].cast("Q")
        self.epochs = epochs.cast("I")
        self.cells = cells.cast("Q")
        self._followed = followed.cast("Q")

    @classmethod
    def create(cls, workers: int = 1, columns: int = 0) -> "SharedMemory":
        """For a service of `workers` workers, with at least this number of `columns`. Raises StartError if there is not enough memory."""
        columns = max(MIN_COLUMNS, COLUMNS_PER_WORKER * workers, columns)
        try:
            descriptor = os.memfd_create("gmproxy")
            os.ftruncate(descriptor, sum(_sizes(columns)))  # sparse: only what is used takes memory
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, columns, SLOTS), 0)
            return cls(descriptor)
        except (OSError, ValueError) as error:
            raise StartError(f"no memory can be shared by the processes: {error}") from None

    # -- columns

    def claim(self, count: int = 1) -> list[int]:
        """`count` free columns for this process. Raises StartError if there are not enough. May block for LOCK_PATIENCE."""
        claimed: list[int] = []
        with self._locked():
            for column in range(self.columns):
                if len(claimed) < count and self._status[column] == FREE and self._try_to_lock(column):
                    self.use(column)  # a free column is empty
                    self._mine.add(column)
                    claimed.append(column)
            if len(claimed) < count:
                self._free(claimed)
                raise StartError("too many workers: the number of workers can only be raised by a restart")
        return claimed

    def use(self, column: int) -> None:
        """Mark `column` as used. If no process has claimed it, it is an orphan from now on."""
        self._status[column] = USED
        self.columns_used[0] = max(self.columns_used[0], column + 1)

    def take_orphans(self) -> list[int]:
        """The columns whose process has ended. They are locked by this process until `free` or `leave`. May block for LOCK_PATIENCE."""
        suspects = [column for column in range(self.columns_used[0]) if self._status[column] == USED and column not in self._mine]
        if not suspects:
            return []
        with self._locked():
            taken = [column for column in suspects if self._status[column] == USED and self._try_to_lock(column)]
            self._mine.update(taken)
        return taken

    def free(self, column: int) -> None:
        """Release `column`, with all that it has in the tables. May block for LOCK_PATIENCE."""
        with self._locked():
            self._clear(column)
            self._free([column])

    def leave(self, column: int) -> None:
        """`column`, which this process has claimed or taken, becomes an orphan."""
        self._mine.discard(column)
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, column)

    def _free(self, columns: list[int]) -> None:
        for column in columns:
            self._status[column] = FREE
            self.leave(column)

    def _clear(self, column: int) -> None:
        """Wipe what `column` has in all tables. The numbers of changes that have begun go on, so that no change of another column overlooks those of
        the next process in this one."""
        words = (SLOTS + 1) * WORDS_PER_SLOT
        halves = self.cells.cast("B")[column * words * 8 : (column + 1) * words * 8].cast("I")
        halves[_LOWER_HALF::2] = memoryview(bytes(words * 4)).cast("I")
        for row in range(self._rows_used[0]):
            self._states[row * self.columns + column] = 0
        self.keys_of(column)[:] = bytes(KEYS_IN_FLIGHT * BYTES_PER_KEY)

    def keys_of(self, column: int) -> memoryview:
        """The memory for the keys in flight of `column` (gmproxy.shared.keys_in_flight), if they are not in a file."""
        size = KEYS_IN_FLIGHT * BYTES_PER_KEY
        return self._keys[column * size : (column + 1) * size]

    def _try_to_lock(self, byte: int) -> bool:
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return False
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the whole memory, against the other processes. Raises StartError after LOCK_PATIENCE."""
        deadline = time.monotonic() + LOCK_PATIENCE
        while not self._try_to_lock(self.columns):
            if time.monotonic() > deadline:
                raise StartError("another process of the service holds the lock of the shared memory")
            time.sleep(LOCK_INTERVAL)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, self.columns)

    # -- rows

    def row_of(self, name: str) -> int | None:
        """The row of the server `name` in all processes; None if there are no more rows. May block for LOCK_PATIENCE."""
        row = self.rows.get(name)
        if row is None:
            digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST).digest()
            with self._locked():
                row = self._find_row(digest)
            if row is not None:
                self.rows[name] = row
        return row

    def _find_row(self, digest: bytes) -> int | None:
        used: int = self._rows_used[0]
        for row in range(used):
            if self._digests[row * _DIGEST : (row + 1) * _DIGEST] == digest:
                return row
        if used == MAX_ROWS:
            return None
        self._digests[used * _DIGEST : (used + 1) * _DIGEST] = digest
        self._rows_used[0] = used + 1
        return used

    def state_of(self, name: str, column: int) -> int:
        """The state of `column` for the server `name` (gmproxy.shared.invalidation_marks); 0 if it has no row. May block for LOCK_PATIENCE."""
        row = self.row_of(name)
        state: int = 0 if row is None else self._states[row * self.columns + column]
        return state

    def states_of(self, row: int) -> memoryview:
        """A byte for each column."""
        return self._states[row * self.columns : (row + 1) * self.columns]

    def followed_of(self, row: int) -> memoryview:
        """The stamp that each column has followed (gmproxy.shared.ejections), for the pool with this row."""
        return self._followed[row * self.columns : (row + 1) * self.columns]

    def parts_of(self, row: int) -> list[memoryview]:
        """BYTES_OF_PARTS bytes for each column."""
        begin = row * self.columns
        return [self._parts[cell * BYTES_OF_PARTS : (cell + 1) * BYTES_OF_PARTS] for cell in range(begin, begin + self.columns)]


def _columns_of(descriptor: int) -> int:
    """The number of columns of the memory of `descriptor`. Raises StartError if it is none, or of another version."""
    try:
        magic, columns, slots = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    except (OSError, struct.error) as error:
        raise StartError(f"the memory passed to this process cannot be read: {error}") from None
    if magic != _MAGIC or slots != SLOTS:
        raise StartError("the memory passed to this process is of another version")
    number: int = columns
    return number


def _sizes(columns: int) -> tuple[int, ...]:
    """Bytes of: the header, the status of the columns, digests, epochs, states, parts, cells, keys in flight, stamps
    that were followed. All are multiples of 8."""
    return (
        _PAGE,
        -(-columns // _PAGE) * _PAGE,
        MAX_ROWS * _DIGEST,
        MAX_ROWS * 4,
        MAX_ROWS * columns,
        MAX_ROWS * columns * BYTES_OF_PARTS,
        columns * (SLOTS + 1) * WORDS_PER_SLOT * 8,
        columns * KEYS_IN_FLIGHT * BYTES_PER_KEY,
        MAX_ROWS * columns * 8,
    )

"""One open journal file: appends batches to it and sets its slots. gmproxy.shared.journal_format describes the format."""

import contextlib
import errno
import os
from collections.abc import Collection, Iterable

from gmproxy.shared import journal_format
from gmproxy.shared.journal_format import EMPTY, HEADER_SIZE, SET, WHOLE_FILE

#: Only the user of the service may read keys.
MODE = 0o600

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class JournalFile:
    """A new file with an empty journal. It is made beside the file `name`, which it replaces when `publish` is called.

    size    bytes in it
    named   numbers of the servers whose names are in it
    slots   the slots that are set

    Every method but `close` may raise OSError. Nothing blocks longer than the file system does.
    """

    def __init__(self, directory: int, name: str) -> None:
        """`directory`: the descriptor of the directory; `name`: of the file to replace."""
        self.size = HEADER_SIZE
        self.named: set[int] = set()
        self.slots: set[int] = set()
        self._directory = directory
        self._name = name
        self._new_name: str | None = f"{name}.new"
        with contextlib.suppress(FileNotFoundError):  # of a process that was killed
            os.unlink(self._new_name, dir_fd=directory)
        self._descriptor = os.open(self._new_name, _NEW, MODE, dir_fd=directory)
        try:
            head, self._checksum = journal_format.header()
            _write(self._descriptor, head, 0)
            self._first = (self.size, self._checksum, frozenset(self.named))
        except BaseException:
            self.close()
            raise

    def append_names(self, names: Collection[tuple[int, bytes]]) -> None:
        """Append the (number, name) of servers; `reset` keeps these. Called at most once, before `append`."""
        if names:
            self.append(b"", names)
        self._first = (self.size, self._checksum, frozenset(self.named))

    def reset(self) -> None:
        """Remove all batches but the names of `append_names`, and clear all slots."""
        self.set_slots(())
        if self.size != self._first[0]:
            os.ftruncate(self._descriptor, self._first[0])
            self.size, self._checksum, named = self._first
            self.named = set(named)

    def append(self, records: bytes, names: Iterable[tuple[int, bytes]] = ()) -> None:
        """Append a batch with `records`, by one write. `names`: (number, name) of the servers in it; of those, the ones that the file does not
        have are added. If it raises, the file is as before, or its end is damaged."""
        new = [(number, name) for number, name in names if number not in self.named]
        if new:
            records = b"".join([journal_format.name_record(number, name) for number, name in new]) + records
        self._check_links()
        data, checksum = journal_format.batch(records, self._checksum)
        try:
            _write(self._descriptor, data, self.size)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)
        self._checksum = checksum
        self.named.update([number for number, _ in new])

    def set_slots(self, slots: Collection[int]) -> None:
        """Set these slots and no others, in place: no space on the disk is needed."""
        self._check_links()
        for slot in self.slots.symmetric_difference(slots):
            _write(self._descriptor, SET if slot in slots else EMPTY, journal_format.slot_at(slot))
        self.slots = set(slots)

    def slot_of(self, number: int) -> int:
        """The slot to set if records of the server `number` are missing."""
        return journal_format.slot_of(number) if number in self.named else WHOLE_FILE

    def destroy(self) -> None:
        """Make the file unreadable: it is damaged from now on. The last resort where no slot can be set."""
        self._check_links()
        os.ftruncate(self._descriptor, 0)

    def _check_links(self) -> None:
        """Raises OSError if the file was removed: what is written to it would be lost."""
        if not os.fstat(self._descriptor).st_nlink:
            raise OSError(errno.ENOENT, "the file was removed")

    def publish(self) -> None:
        """Replace the file `name` atomically."""
        assert self._new_name is not None, "published once"
        os.rename(self._new_name, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._new_name = None

    def close(self) -> None:
        """Remove it if it was not published. Never raises."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        if self._new_name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._new_name, dir_fd=self._directory)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Raises OSError. One system call, unless not all of `data` can be written: the next call reports why."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        count = os.pwrite(descriptor, data[written:], offset + written)
        if not count:
            raise OSError(errno.EIO, "nothing was written")
        written += count

"""The keys in flight of a process, in a mapped file of the journal's directory: so they survive all processes of the service.

It has its size from the beginning, so that a full disk cannot prevent a key from being written. It is not synced to the disk.
"""

import logging
import mmap
import os

from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.journal_file import MODE
from gmproxy.shared.memory import BYTES_PER_KEY, KEYS_IN_FLIGHT

#: Bytes of the file.
SIZE = KEYS_IN_FLIGHT * BYTES_PER_KEY

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

log = logging.getLogger("gmproxy")


def create(directory: JournalDirectory, column: int) -> memoryview | None:
    """The memory of a new, empty file. None if it cannot be made; then that is logged, and the keys in flight are in memory only."""
    if not directory.usable:
        return None
    name = _name(column)
    try:
        _unlink(directory, name)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, MODE, dir_fd=directory.descriptor)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
            return memoryview(mmap.mmap(descriptor, SIZE))
        finally:
            os.close(descriptor)
    except OSError as error:
        directory.report("journal failed", name, error)
        return None


def read(directory: JournalDirectory, column: int) -> memoryview | None:
    """The memory of the file that a process has left; None if there is none. A file that cannot be read is one with unknown keys."""
    if directory.descriptor < 0:
        return None
    try:
        descriptor = os.open(_name(column), os.O_RDONLY | _SAFE, dir_fd=directory.descriptor)
        with open(descriptor, "rb") as file:
            data = file.read(SIZE)
    except FileNotFoundError:
        return None
    except OSError as error:
        directory.report("journal damaged", _name(column), error)
        data = b""
    return memoryview(data) if len(data) == SIZE else _UNKNOWN


def remove(directory: JournalDirectory, column: int) -> None:
    """Raises nothing."""
    try:
        if directory.descriptor >= 0:
            _unlink(directory, _name(column))
    except OSError as error:
        directory.report("journal not removed", _name(column), error)


def _unlink(directory: JournalDirectory, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory.descriptor)
    except FileNotFoundError:
        pass


def _name(column: int) -> str:
    return f"in-flight-{column}"


#: The memory of a process whose keys are unknown (gmproxy.shared.keys_in_flight.has_overflowed).
_UNKNOWN = memoryview(b"\1".ljust(SIZE, b"\0"))

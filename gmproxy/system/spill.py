"""A buffer for data that arrives faster than it is read: in memory up to a limit, beyond it in an unnamed file."""

import os
import tempfile

#: Maximum number of bytes kept in memory.
IN_MEMORY = 1024 * 1024

#: The directory of the file, unless TMPDIR is set. /tmp is in memory on many systems.
FOLDER = "/var/tmp"


class SpillFull(Exception):
    """The limit of a Spill is exceeded."""


class Spill:
    """Holds at most `limit` bytes. All are written first, then read. Used in a `with`, by one thread at a time.

    size   number of bytes written

    Once the data is in the file (`is_on_disk_with`), `write` and `read` block on the disk: then call them in a thread.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._chunks = bytearray()
        self._fd = -1

    def __enter__(self) -> "Spill":
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        self._chunks = bytearray()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def is_on_disk_with(self, more: int) -> bool:
        """True if the data is in the file, or will be after `more` further bytes."""
        return self._fd >= 0 or self.size + more > IN_MEMORY

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises SpillFull if it exceeds the limit, OSError."""
        if self.size + len(chunk) > self._limit:
            raise SpillFull(f"more than {self._limit} bytes")
        if not self.is_on_disk_with(len(chunk)):
            self._chunks += chunk
        else:
            if self._fd < 0:
                self._fd = _open()
                self._write_out(bytes(self._chunks), 0)
                self._chunks = bytearray()
            self._write_out(chunk, self.size)
        self.size += len(chunk)

    def _write_out(self, chunk: bytes, offset: int) -> None:
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view = view[written:]
            offset += written

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at `offset`; b"" at the end. Raises OSError."""
        if self._fd < 0:
            return bytes(self._chunks[offset : offset + count])
        return os.pread(self._fd, count, offset)


def _open() -> int:
    """The descriptor of a new file that is deleted when it is closed. Raises OSError."""
    folder = os.environ.get("TMPDIR") or (FOLDER if os.access(FOLDER, os.W_OK) else None)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())

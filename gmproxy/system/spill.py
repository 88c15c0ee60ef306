"""Bytes that come faster than somebody takes them: in memory as long as there are few, and then in a file that has no name."""

import os
import tempfile

#: Bytes that are kept in memory.
IN_MEMORY = 1024 * 1024

#: Where files of any size belong; /tmp is memory on many systems.
FOLDER = "/var/tmp"


class SpillFull(Exception):
    """There is no room for more bytes."""


class Spill:
    """At most `limit` bytes: first all are written, then all are read. Use it in a `with`; for one thread at a time.

    size   bytes in it

    Everything here may wait for a disk, and raises OSError if that fails.
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
        """True if what it holds is in a file, or will be with so many bytes more."""
        return self._fd >= 0 or self.size + more > IN_MEMORY

    def write(self, chunk: bytes) -> None:
        """Raises SpillFull."""
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
        """Up to `count` bytes from `offset` on; b"" behind the last."""
        if self._fd < 0:
            return bytes(self._chunks[offset : offset + count])
        return os.pread(self._fd, count, offset)


def _open() -> int:
    """A new file that is gone when it is closed."""
    folder = os.environ.get("TMPDIR") or (FOLDER if os.access(FOLDER, os.W_OK) else None)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())

"""Which servers list their keys just now for a worker of the service: one listing at a time for each server.

A memcached has one thread that lists keys. While a client does not take what it sends, the next one who asks stops a worker thread of the
memcached, and the third all of it. So the workers exclude each other here: by locks on the bytes of a file in memory, which the kernel releases if a
worker dies.
"""

import fcntl
import mmap
import os
import time
from zlib import crc32

#: Servers have a row by the hash of their address: should two have the same, one waits for the other without need.
ROWS = 4096
TIME_SIZE = 8  # bytes


class DumpLocks:
    """Made before the workers are forked; each of them uses its copy. Nothing here waits.

    A lock is that of a process. Within one, `_own` are its rows.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("gmproxy-dumps", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, ROWS * TIME_SIZE)
        self._rest_until = memoryview(mmap.mmap(self._fd, ROWS * TIME_SIZE)).cast("d")  # monotonic seconds
        self._own: set[int] = set()

    def acquire(self, server: str) -> bool:
        """False if somebody else lists the keys of `server`, its address. Else nobody does until `release`. Raises OSError."""
        row = _row(server)
        if row in self._own or self._rest_until[row] > time.monotonic():
            return False
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
        except BlockingIOError:
            return False
        self._own.add(row)
        return True

    def release(self, server: str, rest: float = 0.0) -> None:
        """Let others have it, after `rest` seconds."""
        row = _row(server)
        if rest:
            self._rest_until[row] = time.monotonic() + rest
        self._own.discard(row)
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, row)


def _row(server: str) -> int:
    return crc32(server.encode()) % ROWS

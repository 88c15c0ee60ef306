"""Locks of the workers for listings of keys (lru_crawler metadump and the like): one listing at a time for each server.

memcached lists keys in a single thread. While a client does not read its listing, a second listing blocks a worker thread of memcached, and a
third blocks the whole server. The workers lock bytes of a file in memory; the kernel releases the locks of a worker that dies.
"""

import fcntl
import mmap
import os
import time
from zlib import crc32

#: A server's row is the hash of its address. Two servers with the same row exclude each other without need.
ROWS = 4096
TIME_SIZE = 8  # bytes


class DumpLocks:
    """Created before the workers are forked; each uses its copy. Loop callback or greenlet; nothing here blocks.

    The kernel's locks exclude other processes; `_own` excludes other listings of this one.
    """

    def __init__(self) -> None:
        """Raises OSError."""
        self._fd = os.memfd_create("gmproxy-dumps", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, ROWS * TIME_SIZE)
        self._rest_until = memoryview(mmap.mmap(self._fd, ROWS * TIME_SIZE)).cast("d")  # monotonic seconds
        self._own: set[int] = set()

    def acquire(self, server: str) -> bool:
        """Lock the server with the address `server` until `release`. Returns False if another listing has locked it, or ended so recently that
        the server still rests. Raises OSError."""
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
        """Unlock `server`. For `rest` seconds from now on `acquire` returns False in all workers."""
        row = _row(server)
        if rest:
            self._rest_until[row] = time.monotonic() + rest
        self._own.discard(row)
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, row)


def _row(server: str) -> int:
    return crc32(server.encode()) % ROWS

"""Detects changed files by polling. A change is reported once the file was the same in two consecutive polls: until then it may be incomplete."""

import os
from collections.abc import Iterable

#: Modification time in nanoseconds, inode, size.
Signature = tuple[int, int, int]


class FileWatch:
    """Watches the files `paths`. Call `has_changed` about once a second. It also detects that a file, or the target of a symbolic link, was
    replaced.

    Loop callback or greenlet: the methods call stat(2) for each file. They raise nothing.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = list(paths)
        self._reported = self._last = self._signatures()

    def has_changed(self) -> bool:
        """True once after each complete change. While a file is missing it is False."""
        now = self._signatures()
        is_stable = now == self._last
        self._last = now
        if not is_stable or now == self._reported or None in now:
            return False
        self._reported = now
        return True

    def _signatures(self) -> list[Signature | None]:
        return [_signature(path) for path in self._paths]


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size

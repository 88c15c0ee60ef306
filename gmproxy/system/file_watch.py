"""Detects changed files by polling. A change counts once the file has been the same in two consecutive polls."""

import os
from collections.abc import Iterable

#: Modification time in nanoseconds, inode, size.
Signature = tuple[int, int, int]


class FileWatch:
    """Watches the files `paths`; call `has_changed` about once a second. A file may be replaced by another, also behind a symbolic link.

    The methods do a stat(2) of each file and do not wait otherwise. They raise nothing.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = list(paths)
        self._known = self._seen = self._signatures()

    def has_changed(self) -> bool:
        """True, once, after a change that is complete. A file that is missing at the moment has not changed."""
        now = self._signatures()
        settled = now == self._seen
        self._seen = now
        if not settled or now == self._known or None in now:
            return False
        self._known = now
        return True

    def _signatures(self) -> list[Signature | None]:
        return [_signature(path) for path in self._paths]


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size

"""Has a file changed? Looked at once a second; a change counts once the file has been the same for two looks."""

import os


class Watch:
    """Watches the files `paths`; call `changed` about once a second. A file may be replaced by another, also behind a symbolic link."""

    def __init__(self, paths):
        self._paths = list(paths)
        self._known = self._seen = self._look()

    def changed(self):
        """True, once, after a change that is over. A file that is not there, for the moment, has not changed."""
        now = self._look()
        settled = now == self._seen
        self._seen = now
        if not settled or now == self._known or None in now:
            return False
        self._known = now
        return True

    def _look(self):
        return [_signature(path) for path in self._paths]


def _signature(path):
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino, facts.st_size

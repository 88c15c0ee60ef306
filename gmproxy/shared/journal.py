"""The journal of one worker: its pending invalidations in a file, so that they survive the process.

It is not synced to the disk: it survives the end of any process, also by SIGKILL, but not a loss of power.

A fault of the disk is never raised. Of records that cannot be written, the file remembers the servers, in slots that exist since it was made: at
the next start these servers are flushed. Meanwhile the service runs without a journal, and tries to write the file anew (`needs_rewrite`).
"""

import contextlib
import errno
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from gmproxy.shared import journal_format
from gmproxy.shared.journal_file import JournalFile

#: A file of more bytes than this, and of more than GROWTH times those that it had when it was written anew, is written anew.
REWRITE_SIZE = 16 * 1024 * 1024
GROWTH = 4

#: Keys that `rewrite` writes at once.
CHUNK = 1000

#: Seconds between attempts to write the file anew after a fault of the disk.
RETRY_INTERVAL = 10.0

log = logging.getLogger("gmproxy")


class JournalPlace(Protocol):
    """Where the file is: a directory (gmproxy.shared.journal_directory). Methods do not raise unless it says so."""

    def new_file(self, column: int) -> JournalFile:
        """Raises OSError."""

    def set_unwritten(self, column: int, is_unwritten: bool) -> bool:
        """Note without the file that records of `column` are missing, or no longer are. Returns False if that failed."""

    def path_of(self, column: int) -> str:
        """The path of the file, for the log."""

    def erase(self, column: int) -> None:
        """Remove the file."""


class _Server:
    """What one server has in the journal, and what is to be written of it.

    settled, everything, keys   to be written, in this order
    is_changed                  True if one of them is set
    is_live                     True if the file has records of it that are not void
    is_incomplete               True if records of it are missing
    """

    __slots__ = ("number", "name", "settled", "everything", "keys", "is_changed", "is_live", "is_incomplete")

    def __init__(self, number: int, name: bytes) -> None:
        self.number = number
        self.name = name
        self.settled = False
        self.everything = False
        self.keys: list[bytes] = []
        self.is_changed = self.is_live = self.is_incomplete = False

    def records(self) -> bytes:
        records = []
        if self.settled:
            records.append(journal_format.settled_record(self.number))
        if self.everything:
            records.append(journal_format.everything_record(self.number))
        elif self.keys:
            try:
                records.append(journal_format.keys_record(self.number, self.keys))
            except ValueError:  # a key that is too long for the format
                records.append(journal_format.everything_record(self.number))
        return b"".join(records)

    def is_pending(self) -> bool:
        """True if something is to be written that is not void."""
        return self.everything or bool(self.keys)

    def forget_changes(self) -> None:
        self.settled = self.everything = self.is_changed = False
        self.keys = []


class Journal:
    """The writer. The name of a server is the same in all processes and after a restart.

    column       number of the column whose file it is
    errors       faults of the disk since the start
    failed       True since a fault of the disk, until the file was written anew
    suspended    True after `suspend`
    is_complete  True if all that was noted and written is in the file; otherwise the servers of which records are missing are recorded there
    unrecorded   True if records are missing and, because of a further fault, not even that could be recorded

    Loop callback or greenlet. Only `write`, `rewrite`, `suspend` and `close` use the disk, and no fault of it is raised.
    """

    def __init__(self, place: JournalPlace | None, column: int, servers: Iterable[bytes] = ()) -> None:
        """Start an empty file, which replaces an older one of the column. `place`: None if there is no usable directory. `servers`: those that
        may have pending invalidations. If the disk fails, only the servers concerned are flushed at the next start, if they are among these;
        otherwise all servers."""
        self.column = column
        self.errors = 0
        self.failed = False
        self.suspended = False
        self.is_complete = False
        self.unrecorded = False
        self._place = place
        self._servers: dict[bytes, _Server] = {}
        self._changed: list[_Server] = []
        self._file: JournalFile | None = None
        self._successor: JournalFile | None = None  # while the file is written anew
        self._retry_at = 0.0
        self._rewrite_size = 0
        self._lacks_names = False
        self.declare(servers)
        self.rewrite(())

    @property
    def unwritten(self) -> bool:
        """True if there is something to write."""
        return bool(self._changed)

    # -- what happened

    def note(self, server: bytes, key: bytes) -> None:
        """`key` is to be deleted on `server`."""
        entry = self._servers.get(server)
        if entry is None:
            entry = self._new_server(server)
        entry.keys.append(key)
        if not entry.is_changed:
            entry.is_changed = True
            self._changed.append(entry)

    def note_all(self, server: bytes, keys: Iterable[bytes]) -> None:
        """As `note`, for all of `keys`."""
        self._change(server).keys.extend(keys)

    def note_everything(self, server: bytes) -> None:
        """`server` is to be flushed: any key may be stale there."""
        entry = self._change(server)
        entry.everything = True
        entry.keys = []

    def settled(self, server: bytes) -> None:
        """`server` has no pending invalidations: what was noted of it is void."""
        entry = self._servers.get(server)
        if entry is None or not (entry.is_live or entry.is_incomplete or entry.is_changed):
            return
        entry = self._change(server)
        entry.settled = True
        entry.everything = False
        entry.keys = []

    def declare(self, servers: Iterable[bytes]) -> None:
        """These servers may have pending invalidations from now on. Their names are missing in the file until it is written anew, and
        `needs_rewrite` is True."""
        for server in servers:
            if server not in self._servers:
                self._new_server(server)
                self._lacks_names = True

    def _new_server(self, server: bytes) -> _Server:
        entry = self._servers[server] = _Server(len(self._servers), server)
        return entry

    def _change(self, server: bytes) -> _Server:
        entry = self._servers.get(server) or self._new_server(server)
        if not entry.is_changed:
            entry.is_changed = True
            self._changed.append(entry)
        return entry

    # -- writing

    def write(self) -> None:
        """Write what was noted. To be called before the replies to the clients are sent. If it fails, the servers concerned are recorded."""
        changed, self._changed = self._changed, []
        if not changed:
            return
        for entry in changed:
            entry.is_live = entry.is_pending() or entry.is_live and not entry.settled
        if self._successor is not None:
            try:
                _append(self._successor, changed)
            except Exception as error:  # also if memory is short: the rewrite must not end without these records
                self._rewrite_failed(error)
        is_void = not any(entry.is_live for entry in changed) and not self._has_live()
        if self.is_complete and self._file is not None:
            try:
                if is_void:
                    self._file.reset()
                else:
                    _append(self._file, changed)
            except Exception as error:  # as above: whatever was raised, the servers must be recorded
                self._fail(error)
        if not self.is_complete:
            self._record_missing(changed)
            if is_void and not self.suspended:
                self._restart()
        for entry in changed:
            entry.forget_changes()

    def _fail(self, error: Exception) -> None:
        """The file could not be written, and is not complete."""
        self.errors += 1
        self._retry_at = time.monotonic() + RETRY_INTERVAL
        self.is_complete = False
        if not self.failed:
            self.failed = True
            log.warning("journal failed file=%s detail=%r", self._path(), _detail(error))

    def _has_live(self) -> bool:
        return any(entry.is_live for entry in self._servers.values())

    def _restart(self) -> None:
        """Nothing is pending: an empty file is complete, even if the disk is full of what it contained."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.reset()
                self._complete()

    def _record_missing(self, changed: list[_Server]) -> None:
        """Record of which servers the file lacks records, because those of `changed` are not written."""
        before = [entry.is_incomplete for entry in changed]
        for entry in changed:
            entry.is_incomplete = entry.is_pending() or entry.is_incomplete and not entry.settled
        if self._place is None or before == [entry.is_incomplete for entry in changed]:
            return
        missing = [entry for entry in self._servers.values() if entry.is_incomplete]
        error = self._set_slots(missing)
        if error is None or self._place.set_unwritten(self.column, bool(missing)) or missing and self._destroy_file():
            self.unrecorded = False
        elif missing and not self.unrecorded:
            self.unrecorded = True
            servers = ", ".join([entry.name.decode(errors="replace") for entry in missing])
            log.error("journal lost file=%s flush=%r detail=%r", self._path(), servers, _detail(error))

    def _set_slots(self, missing: list[_Server]) -> Exception | None:
        """Set the slots of these servers, and clear the others. Returns the error if that fails."""
        if self._file is None:
            return FileNotFoundError(errno.ENOENT, "there is no file")
        try:
            self._file.set_slots({self._file.slot_of(entry.number) for entry in missing})
        except OSError as error:
            self.errors += 1
            return error
        return None

    def _destroy_file(self) -> bool:
        """The last resort where no slot can be set: a file that is damaged. Returns False if that failed, too."""
        file, self._file = self._file, None
        if file is None:
            return False
        try:
            file.destroy()
        except OSError:
            self._file = file
            return False
        file.close()
        return True

    # -- writing it anew

    @property
    def needs_rewrite(self) -> bool:
        """True if `rewrite` is to be called: the file has much that is void, lacks names of servers, or is not complete and it is time for
        another attempt."""
        if self._place is None or self.suspended or self._successor is not None:
            return False
        is_large = self._file is not None and self._file.size > self._rewrite_size
        return (is_large or self._lacks_names or not self.is_complete) and time.monotonic() >= self._retry_at

    def rewrite(self, pending: Iterable[tuple[bytes, Iterable[bytes] | None]], pause: Callable[[], None] | None = None) -> bool:
        """Replace the file by a new one. Interrupted anywhere, it leaves the old file or the new one.

        pending   (server, keys to delete there) of all servers with pending invalidations; None for the keys: it must be flushed. More than is
                  pending does no harm
        pause     called after every CHUNK keys; it may switch to greenlets that call all other methods

        Returns False if it failed, or was ended by `suspend` or `close`: the old file stays. Raises what `pending` and `pause` raise.
        """
        if self._place is None or self.suspended or self._successor is not None:
            return False
        successor = None
        try:
            successor = self._successor = self._place.new_file(self.column)
            successor.append_names([(entry.number, entry.name) for entry in self._servers.values()])
            for records in self._copies(pending):
                successor.append(*records)
                if pause is not None:
                    pause()
                    if self._successor is not successor:
                        return False
            self.write()
            if self._successor is not successor:
                return False
            successor.publish()
            self._successor = None
        except OSError as error:
            self._rewrite_failed(error)
            return False
        finally:
            if successor is not None and self._successor is successor:
                self._abandon_rewrite()
        self._replace_file(successor)
        return True

    def _copies(self, pending: Iterable[tuple[bytes, Iterable[bytes] | None]]) -> Iterator[tuple[bytes, list[tuple[int, bytes]]]]:
        """`pending` as arguments of JournalFile.append."""
        for server, keys in pending:
            entry = self._servers.get(server) or self._new_server(server)
            names = [(entry.number, entry.name)]
            if keys is None:
                entry.is_live = True
                yield journal_format.everything_record(entry.number), names
                continue
            left = iter(keys)
            while part := list(itertools.islice(left, CHUNK)):
                entry.is_live = True  # for each part: it may have been settled in a pause
                yield journal_format.keys_record(entry.number, part), names

    def _replace_file(self, successor: JournalFile) -> None:
        """The file that was written anew is the file from now on."""
        previous, self._file = self._file, successor
        if previous is not None:
            previous.close()
        for entry in self._servers.values():
            entry.is_incomplete = False
        self._lacks_names = not all(entry.number in successor.named for entry in self._servers.values())
        self._rewrite_size = max(REWRITE_SIZE, GROWTH * successor.size)
        self._complete()

    def _complete(self) -> None:
        """The file has all that is pending."""
        assert self._place is not None
        self._place.set_unwritten(self.column, False)
        self.is_complete = True
        self.unrecorded = False
        if self.failed:
            self.failed = False
            log.info("journal restored file=%s", self._path())

    def _rewrite_failed(self, error: Exception) -> None:
        self._abandon_rewrite()
        if not self.is_complete:
            self._fail(error)
            return
        self.errors += 1
        self._retry_at = time.monotonic() + RETRY_INTERVAL
        log.warning("journal not rewritten file=%s detail=%r", self._path(), _detail(error))

    def _abandon_rewrite(self) -> None:
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.close()

    # -- the operator's switch, and the end

    def suspend(self) -> None:
        """Write no keys from now on. Of each server with invalidations that are noted meanwhile, the file records that it must be flushed at the
        next start: one write of two bytes for each."""
        self.write()
        self._abandon_rewrite()
        self.suspended = True
        self.is_complete = False

    def resume(self) -> None:
        """End `suspend`. `needs_rewrite` is True from now on, and the file is complete after that."""
        self.suspended = False
        self._retry_at = 0.0

    def close(self) -> None:
        """Write what was noted. The file stays for the next start, unless nothing is pending."""
        self.write()
        self._abandon_rewrite()
        if self._file is not None and self._place is not None:
            if self.is_complete and not self._has_live():
                self._place.erase(self.column)
            self._file.close()
        self._file = self._place = None

    def _path(self) -> str:
        return "" if self._place is None else self._place.path_of(self.column)


def _append(file: JournalFile, changed: list[_Server]) -> None:
    file.append(b"".join([entry.records() for entry in changed]), [(entry.number, entry.name) for entry in changed])


def _detail(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""The directory of the setting journal_dir: a file for each column of the service's shared memory, and the lock.

A fault of the disk never prevents the start, and is never raised: the service runs without a journal. The next start then flushes servers: what the
directory cannot tell must not be read.

The file `lock` is locked as long as a process of the service lives. It has a header, and a slot for each column: set if its journal could
not be made, as on a full disk, but something was pending. The format is that of an empty journal, so the slots can always be set.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
import time
from collections.abc import Iterable

from gmproxy.errors import StartError
from gmproxy.shared import journal_format
from gmproxy.shared.journal import Journal
from gmproxy.shared.journal_file import MODE, JournalFile
from gmproxy.shared.journal_format import EMPTY, HEADER_SIZE, SET, SLOTS, Pending
from gmproxy.system import daemon, safe_files

#: Permission bits of a directory that is created.
DIRECTORY_MODE = 0o700

#: Seconds to wait for the lock: the workers of a master that was killed still live for a moment. Interval between attempts.
LOCK_WAIT = 3.0
LOCK_INTERVAL = 0.05

LOCK = "lock"

#: A column has a slot in the lock file, so there are no more than this.
MAX_COLUMNS = SLOTS

#: Names of files that belong to a column: the journal, and the keys in flight (gmproxy.shared.keys_file).
_FILE = re.compile(r"(?:column|in-flight)-([0-9]{1,4})")

#: All files that a journal has.
_OURS = re.compile(rf"{LOCK}|(?:{_FILE.pattern})(?:\.new)?")

_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

log = logging.getLogger("gmproxy")


def prepare(path: str, user: str, group: str) -> None:
    """As root, before the change to `user` and `group` (as for gmproxy.system.daemon.drop_privileges): create the directory `path` if that user may
    not, or give the user one that gmproxy has made as root. This is done only in a directory in which the user can change nothing. Otherwise, or
    if it fails, nothing is changed, and JournalDirectory reports it later. Raises StartError if there is no such user or group."""
    uid, _ = daemon.user_ids(user, group)
    if os.getuid() != 0 or uid in (-1, 0):
        return
    with daemon.acting_as(user, group):
        groups = (*os.getgroups(), os.getegid())
        with contextlib.suppress(OSError), safe_files.parent(path) as (above, name):
            os.mkdir(name, DIRECTORY_MODE, dir_fd=above)
    with contextlib.suppress(OSError), safe_files.parent(path) as (above, name):
        if not safe_files.is_safe(path, groups):
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, DIRECTORY_MODE, dir_fd=above)
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            _give(directory, uid)
        finally:
            os.close(directory)


def _give(directory: int, uid: int) -> None:
    """Make `uid` the owner of a directory of root that has nothing but files of a journal, and of these. Any other is not changed: the setting may
    name one by mistake. Raises OSError."""
    status = os.fstat(directory)
    names = os.listdir(directory)
    if status.st_uid != 0 or stat.S_IMODE(status.st_mode) != DIRECTORY_MODE or not all(map(_OURS.fullmatch, names)):
        return
    for name in names:
        of_file = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(of_file.st_mode) and of_file.st_nlink == 1 and of_file.st_uid == 0:
            os.chown(name, uid, -1, dir_fd=directory, follow_symlinks=False)
    os.fchown(directory, uid, -1)


class JournalDirectory:
    """Opened before the workers are forked, by the user of the service; the workers use copies.

    path        the setting
    usable      False: nothing is written, and what is read is not complete
    errors      faults of the disk since the start
    descriptor  of the directory, -1 without one
    lock        descriptor of the lock file, -1 without one: inherited by workers, and passed to the successor at an upgrade

    `journal`, `read`, `erase`: loop callback or greenlet.
    """

    def __init__(self, path: str, lock: int = -1) -> None:
        """Open the directory, create it if it is missing, and lock it. `lock`: the descriptor that the predecessor passed on, -1 for none. Blocks
        for up to LOCK_WAIT. Raises StartError if another service uses the directory."""
        self.path = path
        self.usable = False
        self.errors = 0
        self.lock = -1
        self.descriptor = -1
        self._is_unreadable = False  # nothing is known of the files in it
        self._has_slots = False
        try:
            self.descriptor = _open_directory(path)
            self._take_lock(lock)
            self.usable = True
        except OSError as error:
            self._is_unreadable = self.descriptor < 0 and error.errno != errno.ENOENT
            self.errors += 1
            log.warning("journal not used file=%s detail=%r", path, _text(error))
        except StartError:
            self.close()
            raise

    def close(self) -> None:
        """Close the directory, and release the lock unless another process has it, too."""
        for descriptor in self.lock, self.descriptor:
            if descriptor >= 0:
                os.close(descriptor)
        self.lock = self.descriptor = -1
        self.usable = False

    # -- the lock

    def _take_lock(self, inherited: int) -> None:
        """Raises OSError, StartError."""
        if inherited >= 0:
            if self._is_lock(inherited):
                os.set_inheritable(inherited, False)
                self.lock = inherited
                self._has_slots = _has_valid_header(inherited)
                return
            os.close(inherited)  # of another directory: the setting was changed
        self.lock, is_new, not_writable = self._open_lock()
        if not stat.S_ISREG(os.fstat(self.lock).st_mode):
            raise OSError(errno.EINVAL, "the lock is not a regular file")
        self._wait_for_lock()
        if not_writable is not None:
            raise not_writable
        self._has_slots = _has_valid_header(self.lock)
        if not self._has_slots:
            self._write_header(is_new)

    def _is_lock(self, descriptor: int) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), os.stat(LOCK, dir_fd=self.descriptor, follow_symlinks=False))
        return False

    def _open_lock(self) -> tuple[int, bool, OSError | None]:
        """(descriptor of the lock file, True if it is new, the error if it can only be read). Raises OSError."""
        try:
            return os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, MODE, dir_fd=self.descriptor), True, None
        except FileExistsError:
            pass
        try:
            return os.open(LOCK, os.O_RDWR | _OPEN, dir_fd=self.descriptor), False, None
        except OSError as error:
            return os.open(LOCK, os.O_RDONLY | _OPEN, dir_fd=self.descriptor), False, error

    def _wait_for_lock(self) -> None:
        """Raises StartError, OSError."""
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StartError(f"journal_dir: {self.path} is in use by another gmproxy") from None
            time.sleep(LOCK_INTERVAL)

    def _write_header(self, is_new: bool) -> None:
        """Give the lock file its slots. If it lacks them although it is not new, the disk was full when it was made, or it is damaged: then what
        was pending is unknown, and column 0 says so. As long as it lacks them, every start flushes all servers."""
        head, _ = journal_format.header()
        if not is_new:
            head = head[: journal_format.slot_at(0)] + SET + head[journal_format.slot_at(1) :]
        try:
            if os.pwrite(self.lock, head, 0) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._has_slots = True
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.lock, 0)
            self.report("journal failed", self.path, error)

    # -- what earlier processes have left

    def orphans(self) -> list[int]:
        """The columns in which earlier processes may have left something. Never raises."""
        columns = set()
        if self.descriptor >= 0:
            try:
                columns = {int(match[1]) for name in os.listdir(self.descriptor) if (match := _FILE.fullmatch(name))}
            except OSError as error:
                self.report("journal damaged", self.path, error)
                if not self.set_unwritten(0, True):
                    self._is_unreadable = True
        if self._is_unreadable or not self._has_slots and self.lock >= 0:
            columns.add(0)
        return sorted(columns | self._unwritten_columns())

    def read(self, column: int) -> Pending:
        """What is pending in `column`, whose process is gone. Never raises: a fault is a damage. It is one, too, that the directory is not
        usable: the process may have been unable to write."""
        try:
            pending = self._read_file(column)
        except OSError as error:
            pending = Pending(damaged=_text(error))
        if not pending.damaged and self._is_unwritten(column):
            pending.damaged = "records could not be written"
        if not pending.damaged and not self.usable and (self.descriptor >= 0 or self._is_unreadable):
            pending.damaged = "the directory cannot be written to, perhaps for some time"
        if pending.damaged:
            self.errors += 1
            log.warning("journal damaged file=%s detail=%r", self.path_of(column), pending.damaged)
        return pending

    def _read_file(self, column: int) -> Pending:
        """Raises OSError."""
        if self.descriptor < 0:
            return Pending()
        try:
            descriptor = os.open(_name(column), os.O_RDONLY | _OPEN, dir_fd=self.descriptor)
        except FileNotFoundError:
            return Pending()
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            return journal_format.read(file, status.st_size)

    def erase(self, column: int) -> None:
        """What is pending in `column` was taken over: it must have been written to another journal. Never raises: what cannot be removed is read
        again at the next start, which does no harm."""
        for name in _name(column), f"{_name(column)}.new":
            try:
                if self.descriptor >= 0:
                    os.unlink(name, dir_fd=self.descriptor)
            except FileNotFoundError:
                pass
            except OSError as error:
                self.errors += 1
                log.warning("journal not removed file=%s detail=%r", self.path_of(column), _text(error))
        self.set_unwritten(column, False)

    # -- for this service

    def journal(self, column: int, servers: Iterable[bytes] = ()) -> Journal:
        """A new, empty journal for a worker. The column must be free: `read` and `erase` come first. `servers`: as for Journal. Never raises."""
        return Journal(self if self.usable else None, column, servers)

    def new_file(self, column: int) -> JournalFile:
        """For Journal. Raises OSError."""
        return JournalFile(self.descriptor, _name(column))

    def set_unwritten(self, column: int, is_unwritten: bool) -> bool:
        """For Journal: note that records of the column are missing, or no longer are. Returns False if that failed."""
        if not self._has_slots:
            return is_unwritten and self.lock >= 0  # a lock file without slots says so of all
        if self._is_unwritten(column) == is_unwritten:
            return True
        try:
            if not os.fstat(self.lock).st_nlink:
                raise OSError(errno.ENOENT, "the lock file was removed")
            os.pwrite(self.lock, SET if is_unwritten else EMPTY, journal_format.slot_at(column))
            return True
        except OSError as error:
            self.report("journal failed", LOCK, error)
            return False

    def _is_unwritten(self, column: int) -> bool:
        if not self._has_slots:
            return self.lock >= 0
        try:
            return os.pread(self.lock, len(SET), journal_format.slot_at(column)) != EMPTY
        except OSError:
            return True

    def _unwritten_columns(self) -> set[int]:
        """The columns whose slots are set."""
        with contextlib.suppress(OSError):
            head = os.pread(self.lock, HEADER_SIZE, 0) if self._has_slots else b""
            if len(head) == HEADER_SIZE:
                return {column for column in range(MAX_COLUMNS) if journal_format.is_set(head, column)}
        return set()

    def path_of(self, column: int) -> str:
        """The path of the file of `column`, for the log."""
        return os.path.join(self.path, _name(column))

    def report(self, event: str, file: str, error: OSError) -> None:
        """Count and log a fault of the disk. `file`: a path, which may be relative to the directory."""
        self.errors += 1
        log.warning("%s file=%s detail=%r", event, os.path.join(self.path, file), _text(error))


def _text(error: OSError) -> str:
    return error.strerror or str(error)


def _name(column: int) -> str:
    return f"column-{column}"


def _has_valid_header(descriptor: int) -> bool:
    """Raises OSError."""
    try:
        journal_format.check_header(os.pread(descriptor, HEADER_SIZE, 0))
    except journal_format.Damaged:
        return False
    return True


def _open_directory(path: str) -> int:
    """The descriptor of the directory `path`, which is created if it is missing. Raises OSError; ENOENT only if there is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        directory = safe_files.open_file(path, flags)
    except FileNotFoundError:
        try:
            with safe_files.parent(path) as (above, name):
                os.mkdir(name, DIRECTORY_MODE, dir_fd=above)
        except OSError as error:
            raise FileNotFoundError(errno.ENOENT, f"cannot create it: {error.strerror}") from None
        directory = safe_files.open_file(path, flags)
    status = os.fstat(directory)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        os.close(directory)
        raise OSError(errno.EPERM, "other users may write to it")
    return directory

"""What makes a process a daemon: background, pid file, another user. Plain `os`, before any gevent."""

import contextlib
import errno
import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator

from gmproxy.errors import StartError
from gmproxy.system import bootstrap, safe_files

#: Only the owner may write to what a process in the background creates.
UMASK = 0o022

#: Permissions of the pid file, and bytes of it that are read: more than the longest number.
PID_FILE_MODE = 0o644
LONGEST_NUMBER = 32

#: The largest number of a user or a group: the next one means "as it is" to the kernel.
LARGEST_ID = 2**32 - 2

#: What is reported once clients are served.
READY = "ready"

#: A word of the command line of a process that is one of ours, and how many words there may be before it.
OUR_COMMAND = re.compile(rb"(^|/)(gmproxy|magent|nutcracker)$|gmproxy\.cli")
WORDS_LOOKED_AT = 6


def go_to_background() -> int:
    """Fork into the background. Returns in a new process without a terminal; the calling process waits for its report and exits: with
    status 0 once the service is ready, else with the error on stderr and status 1.

    Returns the write end of the pipe for that report, for `StartReport`. Raises OSError.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        bootstrap.default_signals()  # to end the command that waits is not to end the service
        with os.fdopen(reading, "rb") as pipe:
            report = pipe.read().decode(errors="replace")
        if report != READY:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(report or "the background process exited during start-up\n")
                sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(os.umask(UMASK) | UMASK)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    return writing


class StartReport:
    """Reports the result of the start to the process that waits for it: the command in the terminal, or this one's predecessor.

    pipe    descriptor to write to, or None if no process waits, or the report was sent
    """

    def __init__(self, pipe: int | None = None) -> None:
        self.pipe = pipe

    def report(self, message: str) -> None:
        """Send READY, or one line about what went wrong; only the first message is sent. Never raises: a reader that has ended meanwhile,
        killed or with its terminal, is no reason not to serve."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self.pipe, message.encode("utf-8", "backslashreplace"))
            self.close_pipe()

    def close_pipe(self) -> None:
        """Report nothing; for a child process that has inherited the pipe."""
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None


def write_pid_file(path: str, predecessor: int | None = None, number: int | None = None) -> None:
    """Write our number, or `number`, to `path`. Raises StartError if another living process of ours holds the file, unless it is
    `predecessor`, which leaves it to us; or if it is not a regular file."""
    number = number or os.getpid()
    what = "read"
    try:
        with safe_files.parent(path) as (directory, name):
            other = _number_in(directory, name, path)
            if other not in (None, number, predecessor) and _is_one_of_ours(other):
                raise StartError(f"pid file {path}: process {other} is running")
            what = "write"
            _write_number(directory, name, number)
    except OSError as error:
        what = "write" if error.errno == errno.ENOENT else what
        raise StartError(f"cannot {what} pid file {path}: {error.strerror}") from None


def _number_in(directory: int, name: str, path: str) -> int | None:
    """The number in the pid file, None if there is none. Raises OSError, StartError."""
    kind = safe_files.kind(directory, name)
    if kind is None:
        return None
    if kind != stat.S_IFREG:
        raise StartError(f"cannot read pid file {path}: it is {'a symbolic link' if kind == stat.S_IFLNK else 'not a regular file'}")
    try:
        text = safe_files.read_small(directory, name, LONGEST_NUMBER).strip()
    except FileNotFoundError:  # removed meanwhile
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _write_number(directory: int, name: str, number: int) -> None:
    """Replace the old file, whose contents are not touched, by a new one. Raises OSError."""
    data = b"%d\n" % number
    try:
        safe_files.replace(directory, name, data, PID_FILE_MODE)
    except PermissionError:  # the directory is not ours; the file in it may be
        if safe_files.kind(directory, name) is None:
            raise
        safe_files.overwrite(directory, name, data)


def remove_pid_file(path: str, number: int | None = None) -> None:
    """Only if it still has our number, or `number`; another user may not be allowed to, which is no fault."""
    with contextlib.suppress(OSError), safe_files.parent(path) as (directory, name):
        if safe_files.read_small(directory, name, LONGEST_NUMBER).strip() == b"%d" % (number or os.getpid()):
            os.unlink(name, dir_fd=directory)


def _is_one_of_ours(pid: int) -> bool:
    """Is there a process `pid`, and is it gmproxy? A number is soon given to another after a crash or a restart of the machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:WORDS_LOOKED_AT]
    except OSError:
        return True  # we may not look: do not take from it what may be its own
    return any(OUR_COMMAND.search(word) for word in words)


@contextlib.contextmanager
def acting_as(user: str, group: str) -> Iterator[None]:
    """What is opened inside, root opens with no more rights than `user` and `group` will have (as for `drop_privileges`). Raises StartError."""
    uid, gid = user_ids(user, group)
    if os.getuid() != 0 or (uid, gid) == (-1, -1):
        yield
        return
    groups, own_group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(_account(user).pw_name, gid) if uid != -1 else [gid])
    os.setegid(gid)
    try:
        if uid != -1:
            os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
        os.setgroups(groups)


def create_for(user: str, group: str, path: str, mode: int) -> None:
    """Where `user` and `group` (as for `drop_privileges`) may not create or write the file `path`, root creates it for the user, or gives it to
    them if it is root's. Only in a directory where these can change nothing: elsewhere, and when anything fails, all is left as it is, and
    whoever opens the file finds out. Raises StartError."""
    uid, _ = user_ids(user, group)
    if os.getuid() != 0 or uid in (-1, 0) or path.startswith(safe_files.OWN_DESCRIPTORS):
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    with acting_as(user, group):
        groups = (*os.getgroups(), os.getegid())
        try:
            os.close(safe_files.open_file(path, flags, mode))
            return
        except PermissionError:
            pass
        except OSError:
            return
    with contextlib.suppress(OSError), safe_files.parent(path) as (directory, name):
        if not safe_files.is_safe(path, groups):
            return
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == 0:
                os.fchown(descriptor, uid, -1)
        finally:
            os.close(descriptor)


def usable_cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def drop_privileges(user: str, group: str) -> None:
    """Change to `user` and `group`, each a name or a number; "" changes nothing. Raises StartError.

    Groups first, the user last: after it the process may not change anything any more.
    """
    if not user and not group:
        return
    account = _account(user) if user else None
    uid, gid = user_ids(user, group)
    if os.getuid() != 0:
        if uid in (-1, os.getuid()) and gid == os.getgid():
            return
        raise StartError("only root can change user or group (-u, -g)")
    try:
        os.setgroups(os.getgrouplist(account.pw_name, gid) if account else [gid])
        os.setgid(gid)
        if account is not None:
            os.setuid(uid)
    except OSError as error:
        raise StartError(f"cannot change to user {user or '-'} group {group or '-'}: {error.strerror}") from None


def user_ids(user: str, group: str) -> tuple[int, int]:
    """(user number, group number) that `drop_privileges` would change to; -1 for what does not change. Raises StartError."""
    account = _account(user) if user else None
    if group:
        gid = _group(group).gr_gid
    else:
        gid = account.pw_gid if account else -1
    return (account.pw_uid if account else -1), gid


def is_id(text: str) -> bool:
    """True if `text` is the number of a user or a group, whether or not there is one."""
    return re.fullmatch("[0-9]{1,10}", text) is not None and int(text) <= LARGEST_ID


def _account(user: str) -> pwd.struct_passwd:
    """The account `user`, a name or a number; `+NUMBER` needs none, and has the group of this process. Raises StartError."""
    if user.startswith("+") and is_id(user[1:]):
        return pwd.struct_passwd((user, "x", int(user), os.getgid(), "", "/", ""))
    try:
        return pwd.getpwuid(int(user)) if is_id(user) else pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user {user!r}") from None


def _group(group: str) -> grp.struct_group:
    try:
        return grp.getgrgid(int(group)) if is_id(group) else grp.getgrnam(group)
    except KeyError:
        raise StartError(f"there is no group {group!r}") from None

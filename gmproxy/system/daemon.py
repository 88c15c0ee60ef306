"""What makes a process a daemon: background, pid file, user and group. Used before gevent is imported."""

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

#: Mask for files created by a background process: only the owner may write to them.
UMASK = 0o022

#: Permission bits of the pid file, and the maximum number of its bytes that are read.
PID_FILE_MODE = 0o644
LONGEST_NUMBER = 32

#: The largest user or group id: the next number means "unchanged" to the kernel.
LARGEST_ID = 2**32 - 2

#: The start report of a service that serves clients.
READY = "ready"

#: The word that identifies a gmproxy process, among the first WORDS_LOOKED_AT words of its command line.
OUR_COMMAND = re.compile(rb"(^|/)(gmproxy|magent|nutcracker)$|gmproxy\.cli")
WORDS_LOOKED_AT = 6


def go_to_background() -> int:
    """Fork into the background. The calling process waits for the start report and exits: with status 0 if the service is ready, else with
    the error on stderr and status 1. The new process, without a terminal, returns from here.

    Returns the write end of the pipe for the report, for StartReport. Raises OSError.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        bootstrap.default_signals()  # a signal to the waiting command does not end the service
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
    """Sends the start report to the process that waits for it: the command in the terminal, or the predecessor at an upgrade.

    pipe    descriptor to write to; None if no process waits, or once the report was sent
    """

    def __init__(self, pipe: int | None = None) -> None:
        self.pipe = pipe

    def report(self, message: str) -> None:
        """Send READY, or a line with the error. Only the first report is sent. Never raises: if the waiting process was killed, the service
        starts all the same."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self.pipe, message.encode("utf-8", "backslashreplace"))
            self.close_pipe()

    def close_pipe(self) -> None:
        """Close the pipe without a report, in a child process that has inherited it."""
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None


def write_pid_file(path: str, predecessor: int | None = None, number: int | None = None) -> None:
    """Write the pid `number`, by default that of this process, to the pid file `path`. Raises StartError if the file has the pid of another
    running gmproxy, except `predecessor`; if it is not a regular file; or if it cannot be written."""
    number = number or os.getpid()
    step = "read"
    try:
        with safe_files.parent(path) as (directory, name):
            other = _number_in(directory, name, path)
            if other is not None and other not in (number, predecessor) and _is_gmproxy_process(other):
                raise StartError(f"pid file {path}: process {other} is running")
            step = "write"
            _write_number(directory, name, number)
    except OSError as error:
        step = "write" if error.errno == errno.ENOENT else step
        raise StartError(f"cannot {step} pid file {path}: {error.strerror}") from None


def _number_in(directory: int, name: str, path: str) -> int | None:
    """The pid in the pid file; None if there is no file, or no number in it. Raises OSError, StartError."""
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
    """Replace the file by a new one; only where the directory does not permit that, overwrite it. Raises OSError."""
    data = b"%d\n" % number
    try:
        safe_files.replace(directory, name, data, PID_FILE_MODE)
    except PermissionError:  # no file can be created in the directory, but the existing one may be writable
        if safe_files.kind(directory, name) is None:
            raise
        safe_files.overwrite(directory, name, data)


def remove_pid_file(path: str, number: int | None = None) -> None:
    """Remove the pid file if it has the pid `number`, by default that of this process. Never raises: if this user may not remove it, it
    stays."""
    with contextlib.suppress(OSError), safe_files.parent(path) as (directory, name):
        if safe_files.read_small(directory, name, LONGEST_NUMBER).strip() == b"%d" % (number or os.getpid()):
            os.unlink(name, dir_fd=directory)


def _is_gmproxy_process(pid: int) -> bool:
    """True if there is a process `pid` and it is gmproxy. After a crash or a reboot the pid may be that of another program."""
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
        return True  # its command line cannot be read: assume that the pid file is its own
    return any(OUR_COMMAND.search(word) for word in words)


@contextlib.contextmanager
def acting_as(user: str, group: str) -> Iterator[None]:
    """Inside of the `with`, root opens files with the rights of `user` and `group` (as for `drop_privileges`) only. Raises StartError."""
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
    """As root, make the file `path` writable for `user` and `group` (as for `drop_privileges`) if they may not create or write it: create it
    with the permission bits `mode`, or change its owner from root to the user. This is done only in a directory in which the user can change
    nothing. Otherwise, or if it fails, nothing is changed, and opening the file as the user fails later. Raises StartError if there is no
    such user or group."""
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
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == 0:
                os.fchown(descriptor, uid, -1)
        finally:
            os.close(descriptor)


def usable_cpus() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def drop_privileges(user: str, group: str) -> None:
    """Change to `user` and `group`, each a name or an id; "" changes nothing. Raises StartError.

    The user is changed last: after that the process can no longer change its groups.
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
    """(user id, group id) that `drop_privileges` changes to; -1 for what does not change. Raises StartError."""
    account = _account(user) if user else None
    if group:
        gid = _group(group).gr_gid
    else:
        gid = account.pw_gid if account else -1
    return (account.pw_uid if account else -1), gid


def is_id(text: str) -> bool:
    """True if `text` is a possible user or group id, whether or not such a user or group exists."""
    return re.fullmatch("[0-9]{1,10}", text) is not None and int(text) <= LARGEST_ID


def _account(user: str) -> pwd.struct_passwd:
    """The account of `user`, a name or an id. `+ID` stands for an id without an account, with the group of this process. Raises StartError."""
    if user.startswith("+") and is_id(user[1:]):
        return pwd.struct_passwd((user, "x", int(user), os.getgid(), "", "/", ""))
    try:
        return pwd.getpwuid(int(user)) if is_id(user) else pwd.getpwnam(user)
    except KeyError:
        raise StartError(f"there is no user {user!r}") from None


def _group(group: str) -> grp.struct_group:
    """The group `group`, a name or an id. Raises StartError."""
    try:
        return grp.getgrgid(int(group)) if is_id(group) else grp.getgrnam(group)
    except KeyError:
        raise StartError(f"there is no group {group!r}") from None

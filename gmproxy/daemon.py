"""What makes a process a daemon: background, pid file, another user. Plain `os`, before any gevent."""

import grp
import os
import pwd
import re
import sys

from gmproxy.errors import StartError

#: What a process in the background creates is written by nobody else.
UMASK = 0o022

#: A word of the command line of a process that is one of ours, and how many words there may be before it.
OUR_COMMAND = re.compile(rb"(^|/)(gmproxy|magent)$|gmproxy\.cli")
WORDS_LOOKED_AT = 6


def go_to_background():
    """Returns in a new process without terminal; the one that called leaves with status 0.

    The child tells the parent over a pipe when it is ready or what went wrong, so that whoever typed the command sees it: returns
    that pipe's write end, for `Waiting`.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            trouble = pipe.read().decode()
        if trouble != "ready":
            sys.stderr.write(trouble or "the background process died at the start\n")
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


class Waiting:
    """Who waits at the other end of `pipe` to hear how the start went: the command that was typed, or the process before this one."""

    def __init__(self, pipe=None):
        self.pipe = pipe

    def tell(self, message):
        """"ready", or one line about what went wrong. Whoever hears of one does not wait for more."""
        if self.pipe is not None:
            os.write(self.pipe, message.encode())
            self.leave_it()

    def leave_it(self):
        """To say nothing; in a child, for example, that is not the one who says it."""
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None


def write_pid_file(path, predecessor=None):
    """Raises StartError if another living process of ours holds the file, unless it is `predecessor`, who leaves it to us."""
    try:
        with open(path) as file:
            other = file.read().strip()
        if other.isdigit() and int(other) not in (os.getpid(), predecessor) and _is_one_of_ours(int(other)):
            raise StartError(f"pid file {path}: process {other} is running")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StartError(f"cannot read pid file {path}: {error.strerror}") from None
    try:
        try:
            _write_number(path)
        except PermissionError:  # root wrote it, before it became us: in a directory of our own it can be replaced
            _write_number(f"{path}.new")
            os.replace(f"{path}.new", path)
    except OSError as error:
        raise StartError(f"cannot write pid file {path}: {error.strerror}") from None


def _write_number(path):
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\n")


def remove_pid_file(path):
    """Only if it is still ours; another user may not be allowed to, which is no fault."""
    try:
        with open(path) as file:
            ours = file.read().strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except OSError:
        pass


def _is_one_of_ours(pid):
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


def cpus():
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def become(user, group):
    """Take on `user` and `group`, each a name or a number; "" keeps what is. Raises StartError.

    Groups first, the user last: after it the process may not change anything any more.
    """
    if not user and not group:
        return
    account = _find(pwd.getpwnam, pwd.getpwuid, "user", user) if user else None
    if group:
        gid = _find(grp.getgrnam, grp.getgrgid, "group", group).gr_gid
    else:
        gid = account.pw_gid
    if os.getuid() != 0:
        if (account is None or account.pw_uid == os.getuid()) and gid == os.getgid():
            return
        raise StartError("only root can change user or group (-u, -g)")
    try:
        os.setgroups(os.getgrouplist(account.pw_name, gid) if account else [gid])
        os.setgid(gid)
        if account is not None:
            os.setuid(account.pw_uid)
    except OSError as error:
        raise StartError(f"cannot become user {user or '-'} group {group or '-'}: {error.strerror}") from None


def owner(user, group):
    """(user number, group number) that `become` would give us; -1 for what stays."""
    account = _find(pwd.getpwnam, pwd.getpwuid, "user", user) if user else None
    gid = _find(grp.getgrnam, grp.getgrgid, "group", group).gr_gid if group else account.pw_gid if account else -1
    return (account.pw_uid if account else -1), gid


def _find(by_name, by_number, what, wanted):
    try:
        return by_number(int(wanted)) if wanted.isdigit() else by_name(wanted)
    except KeyError:
        raise StartError(f"there is no {what} {wanted!r}") from None

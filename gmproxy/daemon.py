"""What makes a process a daemon: background, pid file, another user, enough file descriptors. Plain `os`, before any gevent."""

import grp
import os
import pwd
import resource
import sys

from gmproxy.errors import StartError

#: Descriptors beside clients and links: listeners, log, the loop's own, probes.
SPARE_DESCRIPTORS = 64


def go_to_background():
    """Returns in a new process without terminal; the one that called leaves with status 0.

    The child tells the parent over a pipe when it is ready or what went wrong, so that whoever typed the command sees it: returns
    that pipe's write end, for `report`.
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
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    return writing


def report(pipe, message):
    """Tell the waiting parent: "ready", or one line about what went wrong."""
    os.write(pipe, message.encode())
    os.close(pipe)


def write_pid_file(path):
    """Raises StartError if another living process holds the file."""
    try:
        with open(path) as file:
            other = file.read().strip()
        if other.isdigit() and int(other) != os.getpid() and _is_alive(int(other)):
            raise StartError(f"pid file {path}: process {other} is running")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StartError(f"cannot read pid file {path}: {error.strerror}") from None
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise StartError(f"cannot write pid file {path}: {error.strerror}") from None


def remove_pid_file(path):
    """Only if it is still ours; another user may not be allowed to, which is no fault."""
    try:
        with open(path) as file:
            ours = file.read().strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except OSError:
        pass


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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


def _find(by_name, by_number, what, wanted):
    try:
        return by_number(int(wanted)) if wanted.isdigit() else by_name(wanted)
    except KeyError:
        raise StartError(f"there is no {what} {wanted!r}") from None


def allow_descriptors(wanted):
    """Raise the limit of open files to `wanted`. Returns the limit in force, which may be lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    for limits in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (OSError, ValueError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

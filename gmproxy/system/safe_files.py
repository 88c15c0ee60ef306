"""Opens, creates and removes files as root without following symbolic links of other users.

The service is often started as root, with files in a directory of the user that it changes to. That user can replace any file there, at any
moment, by a link to a file of root. So a path is resolved one name at a time. A symbolic link is followed only if its owner is root or the
effective user of this process, and each operation is relative to the descriptor of the directory reached, not to a path.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator

#: Maximum number of symbolic links followed in one path: the kernel's own limit (ELOOP).
MAX_LINKS = 40

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: The kernel's links to the open files of this process.
OWN_DESCRIPTORS = "/proc/self/fd/"


@contextlib.contextmanager
def parent(path: str) -> Iterator[tuple[int, str]]:
    """(descriptor, name): the directory of `path`, open inside of the `with`, and the last name, which need not exist and may be a link.

    Raises OSError, with ELOOP if the path contains a link of another user.
    """
    directory, name = _walk(path, follow_last=False)
    assert directory is not None, "only a followed last link can lead to an open descriptor of this process"
    try:
        yield directory, name
    finally:
        os.close(directory)


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """As os.open; the descriptor is not inheritable. Raises OSError, with ELOOP if the path contains a link of another user."""
    if path.startswith(OWN_DESCRIPTORS):
        return os.open(path, flags | os.O_CLOEXEC, mode)
    directory, name = _walk(path, follow_last=True)
    try:
        if directory is None:
            return os.open(name, flags | os.O_CLOEXEC, mode)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    finally:
        if directory is not None:
            os.close(directory)


def is_safe(path: str, groups: Collection[int] | None = None) -> bool:
    """True if only root and this user can change where `path` leads: every directory on it belongs to one of them and is not writable by
    others. With `groups`, directories may be writable by a group that is not among these group ids. Raises OSError."""
    directories: list[os.stat_result] = []
    last, _ = _walk(path, follow_last=False, directories=directories)
    assert last is not None
    os.close(last)
    return all(
        status.st_uid in (0, os.geteuid())
        and not status.st_mode & stat.S_IWOTH
        and not (status.st_mode & stat.S_IWGRP and (groups is None or status.st_gid in groups))
        for status in directories
    )


def may_remove(directory: int) -> bool:
    """True if the effective user of this process may remove another user's file from the directory with the descriptor `directory`."""
    status = os.fstat(directory)
    if status.st_mode & stat.S_ISVTX and status.st_uid != os.geteuid():
        return False
    return os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True)


def _walk(path: str, follow_last: bool, directories: list[os.stat_result] | None = None) -> tuple[int | None, str]:
    """Resolve `path`. Returns (descriptor of its directory, last name), or (None, path) if the last name is a followed link to an open
    descriptor of this process. The status of each directory on the path is appended to `directories`. Raises OSError."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or path.endswith("/"):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    here = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    links = 0
    try:
        while True:
            if directories is not None:
                directories.append(os.fstat(here))
            name = names.pop(0)
            if not names and not follow_last:
                return here, name
            target = _link(here, name, path)
            if target is None:
                if not names:
                    return here, name
                here = _enter(here, os.open(name, _DIRECTORY, dir_fd=here))
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith(OWN_DESCRIPTORS) and not names:
                os.close(here)
                return None, target
            names = [part for part in target.split("/") if part not in ("", ".")] + names
            if target.startswith("/"):
                here = _enter(here, os.open("/", _DIRECTORY))
            if not names:
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    except BaseException:
        os.close(here)
        raise


def _enter(previous: int, entered: int) -> int:
    """Close the descriptor `previous`. Returns `entered`."""
    os.close(previous)
    return entered


def _link(directory: int, name: str, path: str) -> str | None:
    """The target of the symbolic link `name`; None if it is not a link or does not exist. Raises OSError if it belongs to another user."""
    try:
        link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            return None
        if status.st_uid not in (0, os.geteuid()):
            raise OSError(errno.ELOOP, "the path contains a symbolic link of another user", path)
        return os.readlink("", dir_fd=link)  # of the link whose owner was checked, not of a replacement
    finally:
        os.close(link)


def kind(directory: int, name: str) -> int | None:
    """The type of the file `name` (stat.S_IFMT), not of a link's target; None if it does not exist. Raises OSError."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def read_small(directory: int, name: str, limit: int) -> bytes:
    """The first `limit` bytes of the regular file `name`. Raises OSError, also for a link or another type of file. Does not block on a pipe."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def replace(directory: int, name: str, data: bytes, mode: int) -> None:
    """Replace the file `name` atomically by a new one with `data` and the permission bits `mode`. The old file is not written to. Raises OSError."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def overwrite(directory: int, name: str, data: bytes) -> None:
    """Write `data` into the existing file `name`. Raises OSError, also if it is not a regular file owned by root or this user with exactly one
    hard link."""
    descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, "it is not a regular file owned by root or this user with exactly one hard link", name)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def private_directory(directory: int) -> Iterator[tuple[int, str]]:
    """(descriptor, name) of a new directory in `directory` that other users may not enter. It is removed after the `with`. Raises OSError."""
    name = f".{secrets.token_hex(8)}"
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(inside)  # the owner of `directory` may have replaced it
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise OSError(errno.EPERM, "another user has replaced a directory", name)
            yield inside, name
        finally:
            os.close(inside)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=directory)

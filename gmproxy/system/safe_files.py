"""Files, sockets and directories by path, safe for root: no symbolic link that another user may have put there is followed.

The service is often started as root with its files in a directory of the user that it becomes. That user can replace anything in there
at any moment, by a link to a file of root. So a path is walked one name at a time: a symbolic link is followed only if root or we
ourselves made it, and what is done is done relative to the descriptor of the directory that was reached, not by path.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Iterator

#: Links followed on one path; the kernel's own limit (ELOOP).
MAX_LINKS = 40

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Links in here are the kernel's: they lead to what this process has open.
OWN_DESCRIPTORS = "/proc/self/fd/"


@contextlib.contextmanager
def parent(path: str) -> Iterator[tuple[int, str]]:
    """(descriptor, name): the directory that `path` leads to, and the name in it, which need not exist and may be a link.

    Raises OSError: ELOOP where a link of another user is in the way.
    """
    here, name = _walk(path, follow_last=False)
    assert here is not None, "only the last link, if followed, leads to one of our own descriptors"
    try:
        yield here, name
    finally:
        os.close(here)


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """As os.open; not inheritable. Raises OSError: ELOOP where a link of another user is in the way."""
    if path.startswith(OWN_DESCRIPTORS):
        return os.open(path, flags | os.O_CLOEXEC, mode)
    here, name = _walk(path, follow_last=True)
    try:
        if here is None:
            return os.open(name, flags | os.O_CLOEXEC, mode)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        if here is not None:
            os.close(here)


def is_safe(path: str, groups: Collection[int] | None = None) -> bool:
    """True if only root and we ourselves can change what `path` leads to: no directory on the way is another user's, or may be written by
    others; by a group only if it is none of `groups`, where these are given. Raises OSError."""
    seen: list[os.stat_result] = []
    here, _ = _walk(path, follow_last=False, seen=seen)
    assert here is not None
    os.close(here)
    return all(
        facts.st_uid in (0, os.geteuid())
        and not facts.st_mode & stat.S_IWOTH
        and not (facts.st_mode & stat.S_IWGRP and (groups is None or facts.st_gid in groups))
        for facts in seen
    )


def may_remove(directory: int) -> bool:
    """True if the effective user of this process may remove another user's file from the directory with this descriptor."""
    facts = os.fstat(directory)
    if facts.st_mode & stat.S_ISVTX and facts.st_uid != os.geteuid():
        return False
    return os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True)


def _walk(path: str, follow_last: bool, seen: list[os.stat_result] | None = None) -> tuple[int | None, str]:
    """The descriptor of the directory and the last name of `path`; no descriptor if it is one of our own descriptors. `seen` gets the
    facts of each directory on the way."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or path.endswith("/"):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    here = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    links = 0
    try:
        while True:
            if seen is not None:
                seen.append(os.fstat(here))
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


def _enter(before: int, there: int) -> int:
    os.close(before)
    return there


def _link(directory: int, name: str, path: str) -> str | None:
    """Where the symbolic link `name` leads, None if it is none or not there. Raises OSError if another user made it."""
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        facts = os.fstat(found)
        if not stat.S_ISLNK(facts.st_mode):
            return None
        if facts.st_uid not in (0, os.geteuid()):
            raise OSError(errno.ELOOP, "the path contains a symbolic link of another user", path)
        return os.readlink("", dir_fd=found)  # of the very link that was looked at
    finally:
        os.close(found)


def kind(directory: int, name: str) -> int | None:
    """The type of the file `name` (stat.S_IFMT), itself and not what it leads to; None if there is none. Raises OSError."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def read_small(directory: int, name: str, limit: int) -> bytes:
    """The first `limit` bytes of the regular file `name`; a link is not followed, a pipe not waited for. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def replace(directory: int, name: str, data: bytes, mode: int) -> None:
    """Put a file with `data` at `name`, whole and at once: whatever was there before is not written to. Raises OSError."""
    fresh = f".{name}.{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=directory)
    try:
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=directory)
        raise


def overwrite(directory: int, name: str, data: bytes) -> None:
    """Write `data` into the file `name` that is there, if it is a regular file of ours or of root with one name. Raises OSError."""
    descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, "it is not a regular file owned by root or this user with exactly one hard link", name)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def private_directory(directory: int) -> Iterator[tuple[int, str]]:
    """(descriptor, name) of a new directory in `directory` that no other user may enter; it is removed at the end. Raises OSError."""
    name = f".{secrets.token_hex(8)}"
    os.mkdir(name, 0o700, dir_fd=directory)
    try:
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            facts = os.fstat(inside)  # the owner of `directory` may have put another one in its place
            if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
                raise OSError(errno.EPERM, "another user has replaced a directory", name)
            yield inside, name
        finally:
            os.close(inside)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=directory)

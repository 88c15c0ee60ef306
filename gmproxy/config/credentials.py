"""Files of users and passwords, one USER:PASSWORD in each line, as for memcached -Y.

`str()` and `repr()` of Credentials, which reach logs and --print-config, return the path of the file, not the passwords.
"""

import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

#: Maximum size of the file, in bytes. memcached reads eight lines of 256 bytes.
MAX_FILE = 64 * 1024


class Credentials:
    """Users and their passwords, from the file `path`. Does not change."""

    __slots__ = ("path", "_passwords")

    def __init__(self, path: str, passwords: Mapping[bytes, bytes]) -> None:
        self.path = path
        self._passwords = passwords

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<Users {self.path}>"

    def __len__(self) -> int:
        return len(self._passwords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credentials) and (self.path, self._passwords) == (other.path, other._passwords)

    def as_plain(self) -> list[Any]:
        """A value for JSON, for `from_plain` in a worker. It contains the passwords: for pipes between processes of the service only."""
        return [self.path, [[user.decode("latin-1"), password.decode("latin-1")] for user, password in self._passwords.items()]]

    def allow(self, user: bytes, password: bytes) -> bool:
        """True if `password` is that of `user`. Takes the same time for an unknown user. Loop callback or greenlet."""
        known = self._passwords.get(user)
        matches = hmac.compare_digest(password, password if known is None else known)
        return matches and known is not None

    def single(self) -> tuple[bytes, bytes]:
        """(user, password) of the only user. Raises ValueError if there is not exactly one."""
        ((user, password),) = self._passwords.items()
        return user, password


def from_plain(plain: Sequence[Any]) -> Credentials:
    """The Credentials from the result of `as_plain`."""
    path, passwords = plain
    return Credentials(path, {user.encode("latin-1"): password.encode("latin-1") for user, password in passwords})


def read_file(path: str) -> Credentials:
    """The Credentials in the file `path`. Raises ValueError: the file cannot be read, others can read it, or its content is wrong."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ValueError(f"{path} must not be readable by others: chmod o-r {path}")
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE} bytes")
    passwords: dict[bytes, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        user, colon, password = line.partition(b":")
        if not line:
            continue
        if not colon or not user or not password:
            raise ValueError(f"{path}:{number}: expected USER:PASSWORD")
        if user in passwords:
            raise ValueError(f"{path}:{number}: duplicate user name")
        passwords[user] = password
    if not passwords:
        raise ValueError(f"{path} contains no USER:PASSWORD line")
    return Credentials(path, passwords)


def read_single(path: str) -> Credentials:
    """As `read_file`, for a file with exactly one user, whose name and password contain no zero byte. Raises ValueError."""
    users = read_file(path)
    if len(users) != 1:
        raise ValueError(f"{path} contains {len(users)} users: expected one")
    if any(b"\0" in word for word in users.single()):  # it separates the words of SASL PLAIN
        raise ValueError(f"{path}: the user name and the password must not contain a zero byte")
    return users

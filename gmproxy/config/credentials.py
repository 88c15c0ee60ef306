"""Files of users and passwords: a line USER:PASSWORD for each, as for memcached -Y.

A password is kept in memory alone: `str()` and `repr()` of Users, which reach logs and --print-config, name the file.
"""

import hmac
import os
import stat

#: Bytes. memcached reads eight lines of 256.
MAX_FILE = 64 * 1024


class Users:
    """Who may come in.

    path   the file they are from
    """

    __slots__ = ("path", "_passwords")

    def __init__(self, path, passwords):
        self.path = path
        self._passwords = passwords

    def __str__(self):
        return self.path

    def __repr__(self):
        return f"<Users {self.path}>"

    def __len__(self):
        return len(self._passwords)

    def __eq__(self, other):
        return isinstance(other, Users) and (self.path, self._passwords) == (other.path, other._passwords)

    def as_plain(self):
        """What JSON can hold, for `from_plain`: for another process of ours alone."""
        return [self.path, [[user.decode("latin-1"), password.decode("latin-1")] for user, password in self._passwords.items()]]

    def allow(self, user, password):
        """True if `password` (bytes) is that of `user` (bytes). An unknown user takes as long."""
        known = self._passwords.get(user)
        matches = hmac.compare_digest(password, password if known is None else known)
        return matches and known is not None

    def only(self):
        """(user, password) of the one there is."""
        ((user, password),) = self._passwords.items()
        return user, password


def from_plain(plain):
    path, passwords = plain
    return Users(path, {user.encode("latin-1"): password.encode("latin-1") for user, password in passwords})


def read(path):
    """The Users in the file `path`. Raises ValueError."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ValueError(f"{path} can be read by everybody: chmod o-r {path}")
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_FILE:
        raise ValueError(f"{path} is larger than {MAX_FILE} bytes")
    passwords = {}
    for number, line in enumerate(text.splitlines(), 1):
        user, colon, password = line.partition(b":")
        if not line:
            continue
        if not colon or not user or not password:
            raise ValueError(f"{path}:{number}: expected USER:PASSWORD")
        if user in passwords:
            raise ValueError(f"{path}:{number}: this user is there twice")
        passwords[user] = password
    if not passwords:
        raise ValueError(f"{path} has no USER:PASSWORD")
    return Users(path, passwords)


def read_one(path):
    """The same of a file with one user, whose name and password can be said."""
    users = read(path)
    if len(users) != 1:
        raise ValueError(f"{path} has {len(users)} users: one is needed")
    if any(b"\0" in word for word in users.only()):
        raise ValueError(f"{path}: a zero byte can be said in no protocol")
    return users

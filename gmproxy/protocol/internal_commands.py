"""The proxy's own commands about a key: fetch it, add it, delete it. A key that is not text (binary clients may have such) goes in
base64, which only a meta command takes."""

import time
from collections.abc import Collection

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS, META_DELETE, META_GET, META_SET_IF, Command
from gmproxy.protocol.text.meta import encoded, is_text

ADD = COMMANDS[b"add"]
DELETE = COMMANDS[b"delete"]

#: The argument of a `stats` with which a proxy says over each connection to a backup that it copies to it. A gmproxy then passes nothing that
#: comes over this connection on to its own backups; a memcached answers that it knows no such thing.
WE_COPY_TO_YOU = b"gmproxy-backup"
NOREPLY = b"noreply"

#: The replies to `delete` if all is well, without CRLF.
DELETED_REPLIES = frozenset((b"DELETED", b"NOT_FOUND", b"HD", b"NF"))


def fetch(key: bytes, returns_life: bool = True) -> tuple[Command, bytes]:
    """(command, line): get the value of `key` with its flags and, if the server can say it (`returns_life`), its remaining seconds."""
    life = b" t" if returns_life else b""
    return META_GET, b"mg %b f%b v\r\n" % (key, life) if is_text(key) else b"mg %b b f%b v\r\n" % (encoded(key), life)


def add_if_absent(key: bytes, flags: int, life: int, data: bytes) -> tuple[Command, bytes]:
    """(command, line): store `data`, which ends in CRLF, under `key` for `life` seconds (0: for ever), unless the server has a value for it."""
    length = len(data) - 2
    if life > limits.LONGEST_RELATIVE_LIFE:
        life = min(int(time.time()) + life, limits.LAST_DATE)
    if is_text(key):
        return ADD, b"add %b %d %d %d\r\n%b" % (key, flags, life, length, data)
    return META_SET_IF, b"ms %b %d b ME F%d T%d\r\n%b" % (encoded(key), length, flags, life, data)


def delete_line(key: bytes) -> bytes:
    """The line that deletes `key`, which is text. memcached 1.6.45 does not answer `delete noreply`: it takes the key for noreply, too."""
    return b"delete %b 0\r\n" % key if key == NOREPLY else b"delete %b\r\n" % key


def delete(key: bytes) -> tuple[Command, bytes]:
    """(command, line): delete `key`."""
    return (DELETE, delete_line(key)) if is_text(key) else (META_DELETE, b"md %b b\r\n" % encoded(key))


def delete_all(keys: Collection[bytes]) -> bytes:
    """The lines that delete all `keys`."""
    if NOREPLY not in keys and is_text(b"".join(keys)):
        return b"delete %b\r\n" % b"\r\ndelete ".join(keys)
    return b"".join([delete(key)[1] for key in keys])

"""The commands that gmproxy itself sends: fetch, add or delete a key. A key that the text protocol cannot have, from a client of the binary
protocol, is sent in base64 by a meta command.

A `(command, line)` has what `new_request` needs besides the key: a Command, and what the server is sent, CRLF included.
"""

import time
from collections.abc import Collection

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS, META_DELETE, META_DELETE_IF, META_GET, META_SET_IF, Command
from gmproxy.protocol.text.meta import encoded, is_text

ADD = COMMANDS[b"add"]
DELETE = COMMANDS[b"delete"]
META_DEBUG = COMMANDS[b"me"]

#: The argument of `stats` that gmproxy sends first on each connection to a backup. A backup that is a gmproxy then sends no copies of the writes
#: from this connection to its own backups; a memcached replies with an error.
WE_COPY_TO_YOU = b"gmproxy-backup"
NOREPLY = b"noreply"

#: The replies to a `delete` that was done, without CRLF.
DELETED_REPLIES = frozenset((b"DELETED", b"NOT_FOUND", b"HD", b"NF"))


def fetch(key: bytes, returns_life: bool = True, returns_cas: bool = False) -> tuple[Command, bytes]:
    """(command, line) of a read of `key`: its value, flags and, if `returns_life`, the remaining seconds, which a binary server cannot return; if
    `returns_cas`, also its cas number."""
    flags = b" f%b%b v" % (b" t" if returns_life else b"", b" c" if returns_cas else b"")
    return META_GET, b"mg %b%b\r\n" % (key, flags) if is_text(key) else b"mg %b b%b\r\n" % (encoded(key), flags)


def add_if_absent(key: bytes, flags: int, life: int, data: bytes) -> tuple[Command, bytes]:
    """(command, line) that stores `data`, which ends in CRLF, unless the server has the key. `life`: in seconds; 0: unlimited."""
    if is_text(key):
        return ADD, b"add %b %d %d %d\r\n%b" % (key, flags, _exptime(life), len(data) - 2, data)
    return META_SET_IF, b"ms %b %d b ME F%d T%d\r\n%b" % (encoded(key), len(data) - 2, flags, _exptime(life), data)


def add_and_return_cas(key: bytes, flags: int, life: int, data: bytes) -> tuple[Command, bytes]:
    """As `add_if_absent`; the reply has the cas number of the item."""
    if is_text(key):
        return META_SET_IF, b"ms %b %d ME F%d T%d c\r\n%b" % (key, len(data) - 2, flags, _exptime(life), data)
    return META_SET_IF, b"ms %b %d b ME F%d T%d c\r\n%b" % (encoded(key), len(data) - 2, flags, _exptime(life), data)


def _exptime(life: int) -> int:
    """The exptime for a life of `life` seconds: a date where that is more than servers accept as seconds."""
    return life if life <= limits.LONGEST_RELATIVE_LIFE else min(int(time.time()) + life, limits.LAST_DATE)


def delete_by_number(key: bytes, number: int) -> tuple[Command, bytes]:
    """(command, line) that deletes `key` if the item has the cas `number`."""
    return META_DELETE_IF, b"md %b C%d\r\n" % (key, number) if is_text(key) else b"md %b b C%d\r\n" % (encoded(key), number)


def probe_meta(key: bytes) -> tuple[Command, bytes]:
    """(command, line) to which servers without meta commands reply with an error."""
    return META_DEBUG, b"me %b\r\n" % key if is_text(key) else b"me %b b\r\n" % encoded(key)


def delete_line(key: bytes) -> bytes:
    """The line that deletes `key`, which must be text. If the key is `noreply`, memcached 1.6.45 would not reply without the 0 behind it."""
    return b"delete %b 0\r\n" % key if key == NOREPLY else b"delete %b\r\n" % key


def delete(key: bytes) -> tuple[Command, bytes]:
    """(command, line) that deletes `key`."""
    return (DELETE, delete_line(key)) if is_text(key) else (META_DELETE, b"md %b b\r\n" % encoded(key))


def delete_all(keys: Collection[bytes]) -> bytes:
    """The lines that delete all `keys`, one for each."""
    if NOREPLY not in keys and is_text(b"".join(keys)):
        return b"delete %b\r\n" % b"\r\ndelete ".join(keys)
    return b"".join([delete(key)[1] for key in keys])

"""Reads items from one server on a connection of its own, to compare them with those of another server (monitoring/verification.py), or to find
out which it lacks (monitoring/refill.py).

Of each value only a digest is kept, so memory does not grow with the values. A plain get is used: a meta get would take the token with which a client
renews a stale item.
"""

import hashlib
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from gmproxy.backend.connect import connect
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.internal_commands import fetch, probe_meta
from gmproxy.protocol.limits import MAX_REPLY_LINE
from gmproxy.protocol.meta_header import MetaHeader
from gmproxy.protocol.text.meta import is_text
from gmproxy.protocol.value_blocks import END
from gmproxy.transport.deadline import Deadline, receive, send_all

RECV_SIZE = 64 * 1024

#: Seconds within which the server must send more.
MAX_SILENCE = 5.0

#: Digits of flags and of a length: both have 32 bits.
MAX_DIGITS = 10

CRLF = b"\r\n"
MISS = b"EN\r\n"


class Item(NamedTuple):
    """An item without its life: flags, bytes of the value, and a digest of it."""

    flags: int
    size: int
    digest: bytes


class ItemReader:
    """A connection to `server` in the text protocol. A context manager, which closes it. Greenlet only: all methods block, and raise BackendError."""

    def __init__(self, server: Server, options: Any) -> None:
        """`options` of the pool."""
        self._sock: socket.socket = connect(server, options.connect_timeout, users=options.server_auth_file)
        self._buffer = bytearray()
        self._meta_header = MetaHeader()
        self._has_me = True

    def __enter__(self) -> "ItemReader":
        return self

    def __exit__(self, *failure: object) -> None:
        self._sock.close()

    def read_items(self, keys: Sequence[bytes]) -> dict[bytes, Item]:
        """{key: Item} for those of `keys` that the server has. There should be few: they are requested at once."""
        text = [key for key in keys if is_text(key)]
        others = [key for key in keys if not is_text(key)]
        lines = [b"get %b\r\n" % b" ".join(text)] if text else []
        self._send_lines(b"".join(lines + [fetch(key, returns_life=False)[1] for key in others]))
        items: dict[bytes, Item] = {}
        while text and (line := self._read_line()) != END:
            key, flags, size = self._parse_value(line)
            items[key] = Item(flags, size, self._read_digest(size))
        for key in others:
            line = self._read_line()
            if line != MISS:
                flags, size = self._parse_meta_value(line)
                items[key] = Item(flags, size, self._read_digest(size))
        return items

    def find(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` that the server has. There should be few: they are requested at once. The values are not read, and the items count as
        unused, where the server has the command `me` (memcached 1.6)."""
        if self._has_me:
            self._send_lines(b"".join(probe_meta(key)[1] for key in keys))
            lines = [self._read_line() for _ in keys]
            if not any(line.startswith(b"ERROR") for line in lines):
                return {key for key, line in zip(keys, lines) if line.startswith(b"ME ")}
            self._has_me = False
        return set(self.read_items(keys))

    def _parse_value(self, line: bytes) -> tuple[bytes, int, int]:
        """(key, flags, length)"""
        words = line[: -len(CRLF)].split(b" ")
        if len(words) != 4 or words[0] != b"VALUE" or not all(map(_is_number, words[2:])):
            raise BackendError(PROTOCOL, f"unexpected reply to get: {line[:60]!r}")
        return words[1], int(words[2]), int(words[3])

    def _parse_meta_value(self, line: bytes) -> tuple[int, int]:
        """(flags, length)"""
        header = self._meta_header
        header.parse(line)
        length = line.split(b" ", 2)[1].strip() if header.code == b"VA" else b""
        if not _is_number(length):
            raise BackendError(PROTOCOL, f"unexpected reply to mg: {line[:60]!r}")
        return header.number(b"f", 0), int(length)

    # -- bytes

    def _send_lines(self, data: bytes) -> None:
        try:
            send_all(self._sock, data, Deadline(MAX_SILENCE))
        except OSError as error:
            raise _backend_error(error) from error

    def _receive(self) -> bytes:
        try:
            chunk = receive(self._sock, RECV_SIZE, Deadline(MAX_SILENCE))
        except OSError as error:
            raise _backend_error(error) from error
        if not chunk:
            raise BackendError(CLOSED)
        return chunk

    def _read_line(self) -> bytes:
        """The next line, with its CRLF."""
        buffer = self._buffer
        while (end := buffer.find(CRLF)) < 0:
            if len(buffer) > MAX_REPLY_LINE:
                raise BackendError(PROTOCOL, f"reply line longer than {MAX_REPLY_LINE} bytes")
            buffer += self._receive()
        line = bytes(buffer[: end + 2])
        del buffer[: end + 2]
        return line

    def _read_digest(self, size: int) -> bytes:
        """The digest of the next `size` bytes, behind which there is a CRLF."""
        digest = hashlib.blake2b(digest_size=16)
        left = size
        while left:
            if not self._buffer:
                self._buffer += self._receive()
            part = bytes(self._buffer[:left])
            del self._buffer[:left]
            digest.update(part)
            left -= len(part)
        if self._read_line() != CRLF:
            raise BackendError(PROTOCOL, "no end of line after a value")
        return digest.digest()


def _is_number(word: bytes) -> bool:
    return word.isdigit() and len(word) <= MAX_DIGITS


def _backend_error(error: OSError) -> BackendError:
    if isinstance(error, TimeoutError):
        return BackendError(TIMEOUT, f"nothing received for {MAX_SILENCE:g} s")
    return BackendError(RESET, str(error))

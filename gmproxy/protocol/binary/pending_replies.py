"""The replies of a server of the binary protocol, packet by packet, as a server of the text protocol would have written them.

One object stands for each request that has been sent (server_requests.py), and makes its reply of the packets that answer it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gmproxy.errors import LOGIN, PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary.packets import EXISTS, LONG_NUMBER, NOT_A_NUMBER, NOT_FOUND, NOT_STORED, OK, OUT_OF_MEMORY, REFUSED, TOO_LARGE
from gmproxy.protocol.request import Request
from gmproxy.protocol.text.requests import TOO_LARGE as TOO_LARGE_LINE
from gmproxy.protocol.text.responses import REPLY_TOO_LARGE
from gmproxy.protocol.value_blocks import END

#: By the name of a meta command: the flags that its reply returns.
RETURNED_FLAGS = {b"mg": b"kOcfs", b"ms": b"kOc", b"md": b"kO", b"ma": b"kOc"}

#: The lines for success and for what is not a failure. Any other success is STORED.
SUCCESS_LINES = {packets.DELETE: b"DELETED\r\n", packets.TOUCH: b"TOUCHED\r\n", packets.FLUSH: b"OK\r\n"}
STATUS_LINES = {NOT_STORED: b"NOT_STORED\r\n", EXISTS: b"EXISTS\r\n", NOT_FOUND: b"NOT_FOUND\r\n"}
META_CODES = {NOT_STORED: b"NS", EXISTS: b"EX", NOT_FOUND: b"NF"}

#: (opcode, status) for which text servers reply NOT_STORED.
NOT_STORED_IN_TEXT = {(packets.ADD, EXISTS), (packets.REPLACE, NOT_FOUND), (packets.APPEND, NOT_FOUND), (packets.PREPEND, NOT_FOUND)}

STORES = (packets.SET, packets.ADD, packets.REPLACE, packets.APPEND, packets.PREPEND)

#: Bytes of a server's own words for a failure.
MAX_WORDS = 200


class PendingReply:
    """The reply to one request, of which some packets may have arrived. What a class derives from this in the compiled build stands in its
    .pxd.

    opcode        of the request's packets, or of the first
    first         the opaque of the first; they count on from there
    count         of its packets
    values_found  values in the reply
    """

    __slots__ = ()

    if TYPE_CHECKING:
        opcode: int
        first: int
        count: int
        values_found: int

    def on_packet(self, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        """Packet number `first + place` is answered. Returns the whole reply to the request, or None if more is to come. Raises
        BackendError. Never waits; called from a loop callback."""
        raise NotImplementedError


class PendingValues(PendingReply):
    """get, gets, gat, gats."""

    __slots__ = ("opcode", "first", "count", "values_found", "_request", "_returns_cas", "_next", "_blocks", "_size", "_error")

    def __init__(self, request: Request, opcode: int, first: int) -> None:
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0
        self._request = request
        self._returns_cas = request.command.name.endswith(b"s")
        self._next = 0  # the first packet that may still be answered: they are in the order asked
        self._blocks: list[bytes] = []
        self._size = 0  # bytes of all blocks
        self._error: bytes | None = None
        if request.keys is not None:
            self.count += len(request.keys)
            request.keys.clear_values()

    def on_packet(self, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        if place < self._next:
            raise BackendError(PROTOCOL, "reply packet out of order")
        self._next = place + 1
        keys = self._request.keys
        is_last = self._next == self.count
        if keys is None or not is_last:
            if status == OK:
                self._add_value(place, self._request.key if keys is None else keys[place], cas, flags, value)
            elif status != NOT_FOUND and self._error is None:
                self._error = error_line(self.opcode, status, value)
        return self._whole_reply() if is_last else None

    def _add_value(self, place: int, key: bytes, cas: int, flags: int, value: bytes) -> None:
        self.values_found += 1
        number = b" %d" % cas if self._returns_cas else b""
        block = b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(value), number, value)
        self._size += len(block)
        if self._size > limits.MAX_REPLY:
            self._blocks.clear()
            self._error = REPLY_TOO_LARGE
            return
        self._blocks.append(block)
        keys = self._request.keys
        if keys is not None:
            keys.next = place + 1
            keys.record_value(self._size)

    def _whole_reply(self) -> bytes:
        if self._error is not None:  # takes the place of all values, as in text
            self.values_found = 0
            return self._error
        self._request.has_value_offsets = True
        self._blocks.append(END)
        return b"".join(self._blocks)


class PendingLine(PendingReply):
    """A classic command that is answered with one line."""

    __slots__ = ("opcode", "first", "count", "values_found")

    def __init__(self, opcode: int, first: int) -> None:
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0

    def on_packet(self, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        opcode = self.opcode
        if status == OK:
            if opcode == packets.INCREMENT or opcode == packets.DECREMENT:
                return b"%d\r\n" % count_in(value)
            return SUCCESS_LINES.get(opcode, b"STORED\r\n")
        return STATUS_LINES.get(status_in_text(opcode, status)) or error_line(opcode, status, value)


class PendingMeta(PendingReply):
    """A meta command. The flags of its reply are those asked for, in that order."""

    __slots__ = ("opcode", "first", "count", "values_found", "_name", "_word", "_flags", "_arguments")

    def __init__(self, opcode: int, first: int, name: bytes, word: bytes, flags: Sequence[bytes], arguments: Mapping[bytes, bytes]) -> None:
        """`word`: the key as it stands in the line; `arguments`: of the `flags`, by their letters."""
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0
        self._name = name
        self._word = word
        self._flags = flags
        self._arguments = arguments

    def on_packet(self, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        if status == OK:
            self.values_found = 1
            return self._success(cas, flags, b"%d" % count_in(value) if self._name == b"ma" else value)
        status = status_in_text(self.opcode, status)
        if status not in META_CODES:
            return error_line(self.opcode, status, value)
        if self._name == b"mg":
            return b"EN\r\n"  # the client's renderer adds the rest
        letters = b"kO" if self._name == b"ma" else RETURNED_FLAGS[self._name]
        return b"%b%b\r\n" % (META_CODES[status], self._returned_flags(letters, 0, 0, 0))

    def _success(self, cas: int, flags: int, value: bytes) -> bytes:
        returned = self._returned_flags(RETURNED_FLAGS[self._name], cas, flags, len(value))
        if b"v" in self._arguments and self._name in (b"mg", b"ma"):
            return b"VA %d%b\r\n%b\r\n" % (len(value), returned, value)
        return b"HD%b\r\n" % returned

    def _returned_flags(self, letters: bytes, cas: int, flags: int, size: int) -> bytes:
        """Of the flags asked for, those with these `letters`, each with a blank before it."""
        returned = b""
        for flag in self._flags:
            letter = flag[:1]
            if letter not in letters:
                continue
            if letter == b"c":
                returned += b" c%d" % cas
            elif letter == b"f":
                returned += b" f%d" % flags
            elif letter == b"s":
                returned += b" s%d" % size
            elif letter == b"O":
                returned += b" " + flag
            else:
                returned += b" k%b b" % self._word if b"b" in self._arguments else b" k" + self._word
        return returned


class PendingNoop(PendingReply):
    """A request that no packet can express: a noop stands for it, and `line` is its reply."""

    __slots__ = ("opcode", "first", "count", "values_found", "_line")

    def __init__(self, first: int, line: bytes) -> None:
        self.opcode = packets.NOOP
        self.first = first
        self.count = 1
        self.values_found = 0
        self._line = line

    def on_packet(self, place: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        return self._line


def count_in(value: bytes) -> int:
    """The number that an incr or decr came to. Raises BackendError."""
    if len(value) != LONG_NUMBER.size:
        raise BackendError(PROTOCOL, f"counter that is not a number: {value[:60]!r}")
    return LONG_NUMBER.unpack(value)[0]


def status_in_text(opcode: int, status: int) -> int:
    """The status that a server of the text protocol would reply."""
    return NOT_STORED if (opcode, status) in NOT_STORED_IN_TEXT else status


def error_line(opcode: int, status: int, value: bytes) -> bytes:
    """The line for a failure. Raises BackendError if the server requires a login."""
    if status == REFUSED:
        if opcode == packets.FLUSH:
            return b"CLIENT_ERROR flush_all not allowed\r\n"
        raise BackendError(LOGIN, "the server requires authentication")
    if status == TOO_LARGE:
        return TOO_LARGE_LINE
    if status == NOT_A_NUMBER:
        return b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
    if status == OUT_OF_MEMORY and opcode in STORES:
        return b"SERVER_ERROR out of memory storing object\r\n"
    words = b" ".join(value[:MAX_WORDS].split()) or b"status 0x%04x" % status
    return b"SERVER_ERROR %b\r\n" % words

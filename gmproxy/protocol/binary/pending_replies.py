"""The replies of a server of the binary protocol, as a server of the text protocol would send them.

There is one object for each request that has been sent (server_requests.py): it makes the reply from the packets of the server.
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

#: Name of a meta command -> letters of the flags that are returned in its reply.
RETURNED_FLAGS = {b"mg": b"kOcfs", b"ms": b"kOc", b"md": b"kO", b"ma": b"kOc"}

#: Opcode -> reply line for success; for any other opcode it is STORED. Status -> reply line; status -> code of the reply to a meta command.
SUCCESS_LINES = {packets.DELETE: b"DELETED\r\n", packets.TOUCH: b"TOUCHED\r\n", packets.FLUSH: b"OK\r\n"}
STATUS_LINES = {NOT_STORED: b"NOT_STORED\r\n", EXISTS: b"EXISTS\r\n", NOT_FOUND: b"NOT_FOUND\r\n"}
META_CODES = {NOT_STORED: b"NS", EXISTS: b"EX", NOT_FOUND: b"NF"}

#: (opcode, status) for which a server of the text protocol replies NOT_STORED.
NOT_STORED_IN_TEXT = {(packets.ADD, EXISTS), (packets.REPLACE, NOT_FOUND), (packets.APPEND, NOT_FOUND), (packets.PREPEND, NOT_FOUND)}

STORES = (packets.SET, packets.ADD, packets.REPLACE, packets.APPEND, packets.PREPEND)

#: Bytes of a server's text for an error, above which it is cut.
MAX_ERROR_TEXT = 200


class PendingReply:
    """The reply to one request, of which some packets may have arrived.

    opcode        of the packets of the request; for several keys, of the get that is not quiet
    first         opaque of the first packet of the request; those of the others follow, modulo 2^32
    count         number of packets of the request
    values_found  number of values in the reply
    """

    __slots__ = ()

    if TYPE_CHECKING:
        opcode: int
        first: int
        count: int
        values_found: int

    def on_packet(self, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        """The reply to packet number `index` of the request has arrived, from 0 on: its opaque is `first + index`. Returns the complete reply to the
        request, in the text protocol, or None if more packets must arrive. Raises BackendError if the connection must be closed."""
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
        self._next = 0  # index of the first packet that can still have a reply: a server replies in the order of the packets
        self._blocks: list[bytes] = []
        self._size = 0  # bytes of all blocks
        self._error: bytes | None = None
        if request.keys is not None:
            self.count += len(request.keys)
            request.keys.clear_values()

    def on_packet(self, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        if index < self._next:
            raise BackendError(PROTOCOL, "reply packet out of order")
        self._next = index + 1
        keys = self._request.keys
        is_last = self._next == self.count
        if keys is None or not is_last:
            if status == OK:
                self._add_value(index, self._request.key if keys is None else keys[index], cas, flags, value)
            elif status != NOT_FOUND and self._error is None:
                self._error = error_line(self.opcode, status, value)
        return self._whole_reply() if is_last else None

    def _add_value(self, index: int, key: bytes, cas: int, flags: int, value: bytes) -> None:
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
            keys.next = index + 1
            keys.record_value(self._size)

    def _whole_reply(self) -> bytes:
        if self._error is not None:  # replaces all values, as in the text protocol
            self.values_found = 0
            return self._error
        self._request.has_value_offsets = True
        self._blocks.append(END)
        return b"".join(self._blocks)


class PendingLine(PendingReply):
    """A command whose reply is one line and that is not a meta command."""

    __slots__ = ("opcode", "first", "count", "values_found")

    def __init__(self, opcode: int, first: int) -> None:
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0

    def on_packet(self, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        opcode = self.opcode
        if status == OK:
            if opcode == packets.INCREMENT or opcode == packets.DECREMENT:
                return b"%d\r\n" % count_in(value)
            return SUCCESS_LINES.get(opcode, b"STORED\r\n")
        return STATUS_LINES.get(status_in_text(opcode, status)) or error_line(opcode, status, value)


class PendingMeta(PendingReply):
    """A meta command. The flags of its reply are in the order of the request."""

    __slots__ = ("opcode", "first", "count", "values_found", "_name", "_word", "_flags", "_arguments")

    def __init__(self, opcode: int, first: int, name: bytes, word: bytes, flags: Sequence[bytes], arguments: Mapping[bytes, bytes]) -> None:
        """`word`: the key as it is in the line; `flags`: as in the line; `arguments`: {letter of a flag: what follows it}."""
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0
        self._name = name
        self._word = word
        self._flags = flags
        self._arguments = arguments

    def on_packet(self, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        if status == OK:
            self.values_found = 1
            return self._success(cas, flags, b"%d" % count_in(value) if self._name == b"ma" else value)
        status = status_in_text(self.opcode, status)
        if status not in META_CODES:
            return error_line(self.opcode, status, value)
        if self._name == b"mg":
            return b"EN\r\n"  # MetaReplyRenderer adds the opaque and the key
        letters = b"kO" if self._name == b"ma" else RETURNED_FLAGS[self._name]
        return b"%b%b\r\n" % (META_CODES[status], self._returned_flags(letters, 0, 0, 0))

    def _success(self, cas: int, flags: int, value: bytes) -> bytes:
        returned = self._returned_flags(RETURNED_FLAGS[self._name], cas, flags, len(value))
        if b"v" in self._arguments and self._name in (b"mg", b"ma"):
            return b"VA %d%b\r\n%b\r\n" % (len(value), returned, value)
        return b"HD%b\r\n" % returned

    def _returned_flags(self, letters: bytes, cas: int, flags: int, size: int) -> bytes:
        """The flags of the reply, those of the request that are in `letters`, with a blank before each. `size`: of the value, in bytes."""
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
    """A request that no packet can express. A noop is sent in its place, and when the server has replied to that, the reply is `line`."""

    __slots__ = ("opcode", "first", "count", "values_found", "_line")

    def __init__(self, first: int, line: bytes) -> None:
        self.opcode = packets.NOOP
        self.first = first
        self.count = 1
        self.values_found = 0
        self._line = line

    def on_packet(self, index: int, status: int, cas: int, flags: int, value: bytes) -> bytes | None:
        return self._line


def count_in(value: bytes) -> int:
    """The new number in the reply to an incr or decr, whose value is `value`. Raises BackendError."""
    if len(value) != LONG_NUMBER.size:
        raise BackendError(PROTOCOL, f"counter that is not a number: {value[:60]!r}")
    number: int = LONG_NUMBER.unpack(value)[0]
    return number


def status_in_text(opcode: int, status: int) -> int:
    """`status`, except for NOT_STORED where that is the reply of the text protocol."""
    return NOT_STORED if (opcode, status) in NOT_STORED_IN_TEXT else status


def error_line(opcode: int, status: int, value: bytes) -> bytes:
    """The error line for a reply with `status` and the text `value`. Raises BackendError if the server requires authentication."""
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
    text = b" ".join(value[:MAX_ERROR_TEXT].split()) or b"status 0x%04x" % status
    return b"SERVER_ERROR %b\r\n" % text

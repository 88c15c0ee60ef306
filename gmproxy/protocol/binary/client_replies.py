"""The operations of the binary protocol by their opcodes, and the replies to a client of the binary protocol: packets, rendered from replies of the
text protocol.

The reply to render is that to a get for the operation "get", and that to a meta command for any other with a key (requests.py).
"""

from collections.abc import Sequence
from typing import Any

from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary.codec import PACKER
from gmproxy.protocol.binary.packets import (
    EXISTS,
    INTERNAL_ERROR,
    LONG_NUMBER,
    NOT_A_NUMBER,
    NOT_FOUND,
    NOT_STORED,
    NUMBER,
    OK,
    OUT_OF_MEMORY,
    REFUSED,
    RESPONSE,
    TOO_LARGE,
    WORDS,
)
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.meta_header import MetaHeader, number_of
from gmproxy.protocol.request import ReplyRenderer, Request
from gmproxy.protocol.value_header import VALUE, ValueHeader

END = b"END\r\n"
CRLF = b"\r\n"

#: (how an error line begins, status of the packet for it). For any other line the status is INTERNAL_ERROR, and the line is the value.
_STATUS_OF_LINE = (
    (b"SERVER_ERROR object too large", TOO_LARGE),
    (b"SERVER_ERROR out of memory", OUT_OF_MEMORY),
    (b"SERVER_ERROR Out of memory", OUT_OF_MEMORY),
    (b"CLIENT_ERROR cannot increment or decrement", NOT_A_NUMBER),
    (b"CLIENT_ERROR flush_all not allowed", REFUSED),
)

_STATUS_OF_META = {b"EN": NOT_FOUND, b"NF": NOT_FOUND, b"EX": EXISTS}

#: Used for each reply, since rendering one does not wait.
_VALUE_HEADER = ValueHeader()
_META_HEADER = MetaHeader()


class Operation:
    """What an opcode means.

    kind        what it does: BinaryParser has a method of this name, with an underscore before it
    command     the Command for which gmproxy itself replies, or which is sent to all servers; None for those with a key
    mode        the flags, with a blank before each, in which its meta command differs from others of the kind; for a login "auth" or "step"
    extras      the lengths that its extras may have, in bytes
    has_key     True: it must have a key; False: it must not; None: it may
    has_value   True: it may have a value
    is_read     True: if it is quiet, there is no reply for a miss; False: no reply for success
    returns_key True: the reply contains the key
    not_stored  the status of the reply if the reply to the meta command is NS
    quiet       True: there is no reply for some results
    """

    __slots__ = ("kind", "command", "mode", "extras", "has_key", "has_value", "is_read", "returns_key", "not_stored", "quiet")

    def __init__(
        self,
        kind: str,
        quiet: bool = False,
        mode: bytes = b"",
        extras: tuple[int, ...] = (0,),
        has_key: bool | None = True,
        returns_key: bool = False,
        not_stored: int = NOT_STORED,
    ) -> None:
        self.kind = kind
        self.command: Any = COMMANDS.get({"stat": b"stats", "flush": b"flush_all"}.get(kind, kind.encode()))
        self.mode = mode
        self.extras = extras
        self.has_key = has_key
        self.has_value = kind in ("store", "extend", "login")
        self.is_read = kind in ("get", "touch")
        self.returns_key = returns_key
        self.not_stored = not_stored
        self.quiet = quiet


OPERATIONS = {
    packets.GET: Operation("get"),
    packets.SET: Operation("store", extras=(8,)),
    packets.ADD: Operation("store", mode=b" ME", extras=(8,), not_stored=EXISTS),
    packets.REPLACE: Operation("store", mode=b" MR", extras=(8,), not_stored=NOT_FOUND),
    packets.DELETE: Operation("delete"),
    packets.INCREMENT: Operation("count", mode=b" MI", extras=(20,)),
    packets.DECREMENT: Operation("count", mode=b" MD", extras=(20,)),
    packets.QUIT: Operation("quit", has_key=False),
    packets.FLUSH: Operation("flush", extras=(0, 4), has_key=False),
    packets.GETQ: Operation("get", quiet=True),
    packets.NOOP: Operation("noop", has_key=False),
    packets.VERSION: Operation("version", has_key=False),
    packets.GETK: Operation("get", returns_key=True),
    packets.GETKQ: Operation("get", returns_key=True, quiet=True),
    packets.APPEND: Operation("extend", mode=b" MA"),
    packets.PREPEND: Operation("extend", mode=b" MP"),
    packets.STAT: Operation("stat", has_key=None),
    packets.SETQ: Operation("store", extras=(8,), quiet=True),
    packets.ADDQ: Operation("store", mode=b" ME", extras=(8,), not_stored=EXISTS, quiet=True),
    packets.REPLACEQ: Operation("store", mode=b" MR", extras=(8,), not_stored=NOT_FOUND, quiet=True),
    packets.DELETEQ: Operation("delete", quiet=True),
    packets.INCREMENTQ: Operation("count", mode=b" MI", extras=(20,), quiet=True),
    packets.DECREMENTQ: Operation("count", mode=b" MD", extras=(20,), quiet=True),
    packets.QUITQ: Operation("quit", has_key=False, quiet=True),
    packets.FLUSHQ: Operation("flush", extras=(0, 4), has_key=False, quiet=True),
    packets.APPENDQ: Operation("extend", mode=b" MA", quiet=True),
    packets.PREPENDQ: Operation("extend", mode=b" MP", quiet=True),
    packets.VERBOSITY: Operation("verbosity", extras=(4,), has_key=False),
    packets.TOUCH: Operation("touch", extras=(4,)),
    packets.GAT: Operation("touch", mode=b" v", extras=(4,)),
    packets.GATQ: Operation("touch", mode=b" v", extras=(4,), quiet=True),
    packets.SASL_MECHANISMS: Operation("mechanisms", has_key=False),
    packets.SASL_AUTH: Operation("login", mode=b"auth"),
    packets.SASL_STEP: Operation("login", mode=b"step"),
    packets.GATK: Operation("touch", mode=b" v", extras=(4,), returns_key=True),
    packets.GATKQ: Operation("touch", mode=b" v", extras=(4,), returns_key=True, quiet=True),
}

#: For any other opcode.
UNKNOWN = Operation("")


class PacketRenderer(ReplyRenderer):
    """Renders the reply to one packet. The methods return packets, or b"" if the client is not to receive one."""

    __slots__ = ("operation", "opcode", "opaque")

    def begin(self, operation: Operation, opcode: int, opaque: int) -> None:
        self.operation = operation
        self.opcode = opcode
        self.opaque = opaque

    def render(self, request: Request) -> bytes:
        reply = request.reply
        if reply.startswith(VALUE) and _VALUE_HEADER.parse_after_key(reply, len(VALUE) + len(request.key), len(reply)):
            return self.value_packet(reply, _VALUE_HEADER, request.key)
        kind = self.operation.kind
        if kind == "stat":
            return self._render_stats(reply)
        if kind == "version":
            return self.packet(value=reply[len(b"VERSION ") : -2])
        return self.render_line(reply, request.key)

    def value_packet(self, reply: bytes, header: ValueHeader, key: bytes) -> bytes:
        """The packet for the value in `reply`, a reply to get, that has this `header`."""
        return PACKER.value_packet(self.opcode, self.opaque, reply, header, key if self.operation.returns_key else b"")

    def render_line(self, reply: bytes, key: bytes) -> bytes:
        """The packet for any `reply` but a value in the reply to get."""
        code = reply[:2]
        if code == b"VA" or code == b"HD":
            return self._render_meta(reply, key)
        if code == b"OK" or not reply:
            return b"" if self.operation.quiet else self.packet()
        if code == b"NS":
            return self.error_packet(self.operation.not_stored)
        status = NOT_FOUND if reply == END else _STATUS_OF_META.get(code, OK)
        if status == NOT_FOUND and self.operation.is_read:
            return self.miss_packet(key)
        return self.error_packet(status) if status else self._render_error_line(reply)

    def _render_meta(self, reply: bytes, key: bytes) -> bytes:
        operation = self.operation
        if operation.quiet and not operation.is_read:
            return b""
        header = _META_HEADER
        header.parse(reply)
        cas = header.number(b"c", 0)
        value = reply[header.data_start : -2]
        if operation.kind == "count":
            return self.packet(OK, cas, b"", b"", LONG_NUMBER.pack(number_of(value) % 2**64))
        if operation.is_read:
            flags = header.number(b"f", 0)
            return self.packet(OK, cas, NUMBER.pack(flags % 2**32), key if operation.returns_key else b"", value)
        return self.packet(OK, cas)

    def miss_packet(self, key: bytes) -> bytes:
        """The packet for a miss."""
        if self.operation.quiet:
            return b""
        return self.packet(NOT_FOUND, 0, b"", key) if self.operation.returns_key else self.error_packet(NOT_FOUND)

    def _render_error_line(self, line: bytes) -> bytes:
        for prefix, status in _STATUS_OF_LINE:
            if line.startswith(prefix):
                return self.error_packet(status)
        return self.packet(INTERNAL_ERROR, value=line.rstrip().removeprefix(b"SERVER_ERROR "))

    def _render_stats(self, reply: bytes) -> bytes:
        if not reply.endswith((END, b"RESET\r\n")):
            return self.error_packet(NOT_FOUND)
        rendered = []
        for line in reply.split(CRLF)[:-2]:
            name, _, value = line.removeprefix(b"STAT ").partition(b" ")
            rendered.append(self.packet(key=name, value=value))
        rendered.append(self.packet())
        return b"".join(rendered)

    def error_packet(self, status: int) -> bytes:
        """The packet with `status`, which is not OK, and memcached's text for it as the value."""
        return self.packet(status, 0, b"", b"", WORDS[status])

    def packet(self, status: int = OK, cas: int = 0, extras: bytes = b"", key: bytes = b"", value: bytes = b"") -> bytes:
        """A packet with the opcode and opaque of the request."""
        return PACKER.packet(RESPONSE, self.opcode, status, self.opaque, cas % 2**64, extras, key, value)


def new_renderer(operation: Operation, opcode: int, opaque: int) -> PacketRenderer:
    """A new PacketRenderer for a packet with `opcode` and `opaque`, in the compiled build by a C call, which a call of the class is not."""
    renderer = PacketRenderer.__new__(PacketRenderer)
    renderer.begin(operation, opcode, opaque)
    return renderer


class PacketSequenceRenderer(ReplyRenderer):
    """Renders the reply to a gets of several keys as the replies to several get packets: `renderers` has one for each key."""

    __slots__ = ("renderers",)

    def __init__(self, renderers: Sequence[PacketRenderer]) -> None:
        self.renderers = renderers

    def render(self, request: Request) -> bytes:
        reply = request.reply
        if not reply.endswith(END):
            return b"".join([renderer.render_line(reply, key) for renderer, key in zip(self.renderers, request.keys)])
        header = _VALUE_HEADER
        rendered = []
        start = 0
        for renderer, key in zip(self.renderers, request.keys):
            key_end = start + len(VALUE) + len(key)
            if (
                reply.startswith(VALUE, start)
                and reply.startswith(key, start + len(VALUE))
                and header.parse_after_key(reply, key_end, len(reply))
            ):
                rendered.append(renderer.value_packet(reply, header, key))
                start = header.end
            else:
                rendered.append(renderer.miss_packet(key))
        return b"".join(rendered)

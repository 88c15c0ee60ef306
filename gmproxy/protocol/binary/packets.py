"""The packets of the binary protocol, as in memcached's protocol-binary.txt: constants and functions for both clients and servers."""

import struct
from typing import NamedTuple

from gmproxy.protocol.binary.codec import PACKER
from gmproxy.protocol.binary.layout import HEADER

#: `magic`, the first byte of a packet.
REQUEST = 0x80
RESPONSE = 0x81

HEADER_SIZE = HEADER.size

STORE_EXTRAS = struct.Struct(">II")  # flags, exptime
COUNT_EXTRAS = struct.Struct(">QQI")  # delta, initial value, exptime
NUMBER = struct.Struct(">I")  # the flags of a value; an exptime alone
LONG_NUMBER = struct.Struct(">Q")  # the value of an incr or decr

#: The exptime with which incr and decr do not create an item.
NO_INITIAL = 2**32 - 1

# Opcodes. Q is for quiet: without a reply for a miss, or for success.
GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT = range(0x11)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ = range(0x11, 0x1F)
SASL_MECHANISMS, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)

#: The SASL mechanism. The value is [authorization identity] NUL user NUL password.
PLAIN = b"PLAIN"

# Status of a reply.
OK, NOT_FOUND, EXISTS, TOO_LARGE, INVALID, NOT_STORED, NOT_A_NUMBER = range(7)
REFUSED, GO_ON, UNKNOWN_COMMAND, OUT_OF_MEMORY, INTERNAL_ERROR = 0x20, 0x21, 0x81, 0x82, 0x84

#: Status -> memcached's text for it, the value of the packet.
WORDS = {
    NOT_FOUND: b"Not found",
    EXISTS: b"Data exists for key.",
    TOO_LARGE: b"Too large.",
    INVALID: b"Invalid arguments",
    NOT_STORED: b"Not stored.",
    NOT_A_NUMBER: b"Non-numeric server-side value for incr or decr",
    REFUSED: b"Auth failure.",
    UNKNOWN_COMMAND: b"Unknown command",
    OUT_OF_MEMORY: b"Out of memory",
}


def request_packet(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"", opaque: int = 0, cas: int = 0) -> bytes:
    """A request to a server."""
    return PACKER.packet(REQUEST, opcode, 0, opaque, cas, extras, key, value)


class ReplyPacket(NamedTuple):
    """A packet from a server."""

    status: int
    key: bytes
    value: bytes


def parse_packets(data: bytes) -> list[ReplyPacket]:
    """The complete packets with which `data` begins. Raises ValueError if anything else follows them, or precedes them."""
    parsed = []
    start = 0
    while len(data) > start:
        if data[start] != RESPONSE:
            raise ValueError(f"not a packet of the binary protocol: {data[start : start + 60]!r}")
        if len(data) - start < HEADER_SIZE:
            break
        _, _, key_length, extras_length, status, body_length, _, _ = HEADER.unpack_from(data, start)
        key_start = start + HEADER_SIZE + extras_length
        start += HEADER_SIZE + body_length
        if start > len(data):
            break
        parsed.append(ReplyPacket(status, data[key_start : key_start + key_length], data[key_start + key_length : start]))
    return parsed

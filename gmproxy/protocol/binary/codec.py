"""Packets of the binary protocol as bytes: numbers out of a header, and numbers, a key and a value into a packet.

This hot module is written twice: with Python's `struct`, a header took as long as all else about a get (the benchmark's curve of protocols), so
codec.pyx does it with C pointers. tests/unit/protocol/binary/test_codec.py and tests/differential/test_reply_mutations.py hold both builds to one
behaviour. Where a packet ends is decided by their callers, of which there is one source.
"""

import struct

from gmproxy.protocol.binary.layout import HEADER
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.value_header import ValueHeader

#: The flags of a value.
_FLAGS = struct.Struct(">I")

_RESPONSE = 0x81


class PacketHeader:
    """The header of a packet; any number of them after one another.

    magic, opcode, key_length, extras_length, status, body_length, opaque, cas   its numbers
    """

    __slots__ = ("magic", "opcode", "key_length", "extras_length", "status", "body_length", "opaque", "cas")

    def parse(self, stream: RecvBuffer, start: int) -> None:
        """Take the numbers of the whole header that stands in `stream` from offset `start` on."""
        (self.magic, self.opcode, self.key_length, self.extras_length, self.status, self.body_length, self.opaque, self.cas) = (
            HEADER.unpack(stream.cut(start, start + HEADER.size))
        )


class Packer:
    """Makes packets. It is an object, and there is one, since the compiled build calls the methods of objects without a detour."""

    __slots__ = ()

    def packet(self, magic: int, opcode: int, status: int, opaque: int, cas: int, extras: bytes, key: bytes, value: bytes) -> bytes:
        """The packet with these numbers, from 0 to what their field in the header has place for, and the body extras, key, value."""
        body_length = len(extras) + len(key) + len(value)
        return b"".join((HEADER.pack(magic, opcode, len(key), len(extras), status, body_length, opaque, cas), extras, key, value))

    def value_packet(self, opcode: int, opaque: int, reply: bytes, header: ValueHeader, key: bytes) -> bytes:
        """The reply to a get: the value in `reply`, a text server's, that has this `header`, and `key` if that is not empty. Raises ValueError
        if the value is not whole."""
        if not 0 < header.data_start < header.end <= len(reply):
            raise ValueError("the header is not of this reply")
        value = reply[header.data_start : header.end - 2]
        return self.packet(_RESPONSE, opcode, 0, opaque, header.cas, _FLAGS.pack(header.flags % 2**32), key, value)


PACKER = Packer()

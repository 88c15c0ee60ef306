"""The bytes of packets of the binary protocol: parses headers, makes packets.

This hot module is written twice: with Python's `struct`, a header took as long as everything else for a get (the benchmark's curve of protocols), so
codec.pyx does it with C pointers. tests/unit/protocol/binary/test_codec.py and tests/differential/test_reply_mutations.py hold both builds to the
same behaviour. Where a packet ends is decided by the callers, of which there is one source.
"""

import struct

from gmproxy.protocol.binary.layout import HEADER
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.value_header import ValueHeader

#: The flags of a value.
_FLAGS = struct.Struct(">I")

_RESPONSE = 0x81


class PacketHeader:
    """The header that `parse` parsed last. Its attributes are the fields of the header; lengths are in bytes."""

    __slots__ = ("magic", "opcode", "key_length", "extras_length", "status", "body_length", "opaque", "cas")

    def parse(self, stream: RecvBuffer, start: int) -> None:
        """Parse the header at offset `start` of `stream`, which must be complete."""
        (self.magic, self.opcode, self.key_length, self.extras_length, self.status, self.body_length, self.opaque, self.cas) = (
            HEADER.unpack(stream.cut(start, start + HEADER.size))
        )


class Packer:
    """Makes packets. It is a class with one instance since methods can be C functions in the compiled build."""

    __slots__ = ()

    def packet(self, magic: int, opcode: int, status: int, opaque: int, cas: int, extras: bytes, key: bytes, value: bytes) -> bytes:
        """The packet with these fields, which must fit into the header, and with the body `extras`, `key` and `value`."""
        body_length = len(extras) + len(key) + len(value)
        return b"".join((HEADER.pack(magic, opcode, len(key), len(extras), status, body_length, opaque, cas), extras, key, value))

    def value_packet(self, opcode: int, opaque: int, reply: bytes, header: ValueHeader, key: bytes) -> bytes:
        """The packet for the reply to a get: with the value in `reply`, of the text protocol, that has this `header`, and with `key` or b"". Raises
        ValueError if `reply` ends before the value does."""
        if not 0 < header.data_start < header.end <= len(reply):
            raise ValueError("the header is not of this reply")
        value = reply[header.data_start : header.end - 2]
        return self.packet(_RESPONSE, opcode, 0, opaque, header.cas, _FLAGS.pack(header.flags % 2**32), key, value)


PACKER = Packer()

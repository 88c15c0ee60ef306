"""Packets of the binary protocol as bytes: numbers out of a header, and numbers, a key and a value into a packet.

The compiled build has gmproxy/_c/packing.pyx in its place: with Python's `struct` a header took as long as all else about a get
(the benchmark's curve of protocols).
"""

import struct

from gmproxy.protocol.binary.layout import HEADER

#: The flags of a value.
_FLAGS = struct.Struct(">I")

_RESPONSE = 0x81
_MOST_DIGITS = 20


class Header:
    """The header of a packet; as many of them after one another as one likes.

    magic, opcode, key_length, extras_length, status, body_length, opaque, cas   its numbers
    """

    __slots__ = ("magic", "opcode", "key_length", "extras_length", "status", "body_length", "opaque", "cas")

    def read(self, stream, start):
        """Take the numbers of the whole header that stands in `stream` from offset `start` on."""
        (self.magic, self.opcode, self.key_length, self.extras_length, self.status, self.body_length, self.opaque,
         self.cas) = HEADER.unpack(stream.cut(start, start + HEADER.size))


class Packer:
    """Makes packets. It is an object, and there is one, since the compiled build calls the methods of objects without a detour."""

    __slots__ = ()

    def packet(self, magic, opcode, status, opaque, cas, extras, key, value):
        """The packet with these numbers, from 0 to what their field in the header has place for, and the body extras, key, value."""
        body = len(extras) + len(key) + len(value)
        return b"".join((HEADER.pack(magic, opcode, len(key), len(extras), status, body, opaque, cas), extras, key, value))

    def item(self, opcode, opaque, reply, start, stop, key):
        """The answer that tells the item of the VALUE block reply[start:stop], and `key` if that is not empty.

        The block is one that a TextReplyParser has let pass. A cas number of more than 20 digits cannot be true, but must not stop us.
        """
        header_end = reply.index(b"\r\n", start, stop - 2)
        _, _, flags, _, *cas = reply[start:header_end].split(b" ")
        number = int(cas[0][:_MOST_DIGITS]) % 2**64 if cas else 0
        return self.packet(_RESPONSE, opcode, 0, opaque, number, _FLAGS.pack(int(flags) % 2**32), key, reply[header_end + 2:stop - 2])


PACKER = Packer()

# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled form of gmproxy/protocol/binary/codec.py: see there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

cdef enum:
    HEADER_SIZE = 24
    FLAGS_SIZE = 4
    RESPONSE = 0x81


cdef class PacketHeader:

    cpdef parse(self, RecvBuffer stream, Py_ssize_t start):
        if start < 0 or start + HEADER_SIZE > stream.end:
            raise IndexError("the header is not complete")
        cdef const unsigned char *at = <const unsigned char *>stream._text + start
        self.magic = at[0]
        self.opcode = at[1]
        self.key_length = number(at + 2, 2)
        self.extras_length = at[4]
        self.status = <int>number(at + 6, 2)
        self.body_length = number(at + 8, 4)
        self.opaque = <unsigned int>number(at + 12, 4)
        self.cas = number(at + 16, 8)


cdef class Packer:

    cpdef bytes packet(self, int magic, int opcode, int status, unsigned int opaque, unsigned long long cas, bytes extras, bytes key, bytes value):
        cdef Py_ssize_t extras_length = PyBytes_GET_SIZE(extras), key_length = PyBytes_GET_SIZE(key), value_length = PyBytes_GET_SIZE(value)
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + extras_length + key_length + value_length)
        cdef unsigned char *to = <unsigned char *>PyBytes_AS_STRING(packet)
        put_header(to, magic, opcode, key_length, extras_length, status, extras_length + key_length + value_length, opaque, cas)
        to += HEADER_SIZE
        memcpy(to, PyBytes_AS_STRING(extras), extras_length)
        to += extras_length
        memcpy(to, PyBytes_AS_STRING(key), key_length)
        to += key_length
        memcpy(to, PyBytes_AS_STRING(value), value_length)
        return packet

    cpdef bytes value_packet(self, int opcode, unsigned int opaque, bytes reply, ValueHeader header, bytes key):
        cdef Py_ssize_t key_length = PyBytes_GET_SIZE(key), length = header.length
        cdef bytes packet
        cdef unsigned char *to
        if not 0 < header.data_start < header.end <= PyBytes_GET_SIZE(reply):
            raise ValueError("the header is not of this reply")
        packet = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + FLAGS_SIZE + key_length + length)
        to = <unsigned char *>PyBytes_AS_STRING(packet)
        put_header(to, RESPONSE, opcode, key_length, FLAGS_SIZE, 0, FLAGS_SIZE + key_length + length, opaque, header.cas)
        to += HEADER_SIZE
        put(to, header.flags, FLAGS_SIZE)
        to += FLAGS_SIZE
        memcpy(to, PyBytes_AS_STRING(key), key_length)
        to += key_length
        memcpy(to, PyBytes_AS_STRING(reply) + header.data_start, length)
        return packet


PACKER = Packer()


# None of these can raise. Without noexcept, Cython 3 would check for an exception after each call, six times for a packet.

cdef inline unsigned long long number(const unsigned char *text, int size) noexcept:
    """The big-endian number of `size` bytes."""
    cdef unsigned long long number = 0
    cdef int at
    for at in range(size):
        number = number << 8 | text[at]
    return number


cdef inline void put(unsigned char *to, unsigned long long number, int size) noexcept:
    while size:
        size -= 1
        to[size] = <unsigned char>number
        number >>= 8


cdef inline void put_header(unsigned char *to, int magic, int opcode, Py_ssize_t key_length, Py_ssize_t extras_length, int status,
                            Py_ssize_t body_length, unsigned int opaque, unsigned long long cas) noexcept:
    to[0] = <unsigned char>magic
    to[1] = <unsigned char>opcode
    put(to + 2, key_length, 2)
    to[4] = <unsigned char>extras_length
    to[5] = 0
    put(to + 6, status, 2)
    put(to + 8, body_length, 4)
    put(to + 12, opaque, 4)
    put(to + 16, cas, 8)

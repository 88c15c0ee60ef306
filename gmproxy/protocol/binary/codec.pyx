# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/protocol/packing.py: see there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

cdef enum:
    HEADER_SIZE = 24
    FLAGS_SIZE = 4
    RESPONSE = 0x81
    LABEL_SIZE = 6   # of "VALUE "
    MOST_DIGITS = 20


cdef class Header:

    cpdef read(self, RecvBuffer stream, Py_ssize_t start):
        if start < 0 or start + HEADER_SIZE > stream.end:
            raise IndexError("no whole header")
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
        cdef bytes made = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + extras_length + key_length + value_length)
        cdef unsigned char *to = <unsigned char *>PyBytes_AS_STRING(made)
        put_header(to, magic, opcode, key_length, extras_length, status, extras_length + key_length + value_length, opaque, cas)
        to += HEADER_SIZE
        memcpy(to, PyBytes_AS_STRING(extras), extras_length)
        to += extras_length
        memcpy(to, PyBytes_AS_STRING(key), key_length)
        to += key_length
        memcpy(to, PyBytes_AS_STRING(value), value_length)
        return made

    cpdef bytes item(self, int opcode, unsigned int opaque, bytes reply, Py_ssize_t start, Py_ssize_t stop, bytes key):
        cdef const char *text = PyBytes_AS_STRING(reply)
        cdef unsigned long long flags = 0, length = 0, cas = 0
        cdef Py_ssize_t at = start + LABEL_SIZE, key_length = PyBytes_GET_SIZE(key), value_length
        cdef const char *found
        cdef bytes made
        cdef unsigned char *to
        if not 0 <= start < stop <= PyBytes_GET_SIZE(reply) or at >= stop:
            raise ValueError("no such block")
        found = <const char *>memchr(text + at, c" ", stop - at)
        if found == NULL:
            raise ValueError("no flags")
        at = read_digits(text, found - text + 1, stop, &flags)
        at = read_digits(text, at + 1, stop, &length)
        if at < stop and text[at] == c" ":
            read_digits(text, at + 1, stop, &cas)
        found = <const char *>memchr(text + at, c"\n", stop - at) if at < stop else NULL
        if found == NULL or found - text + 1 > stop - 2:
            raise ValueError("no value")
        at = found - text + 1
        value_length = stop - 2 - at
        made = PyBytes_FromStringAndSize(NULL, HEADER_SIZE + FLAGS_SIZE + key_length + value_length)
        to = <unsigned char *>PyBytes_AS_STRING(made)
        put_header(to, RESPONSE, opcode, key_length, FLAGS_SIZE, 0, FLAGS_SIZE + key_length + value_length, opaque, cas)
        to += HEADER_SIZE
        put(to, flags, FLAGS_SIZE)
        to += FLAGS_SIZE
        memcpy(to, PyBytes_AS_STRING(key), key_length)
        to += key_length
        memcpy(to, text + at, value_length)
        return made


PACKER = Packer()


# None of these can fail. Cython 3 would ask after each call, six times for a packet, unless it is told so.

cdef inline unsigned long long number(const unsigned char *text, int size) noexcept:
    """What `size` bytes say, the highest first."""
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


cdef inline Py_ssize_t read_digits(const char *text, Py_ssize_t at, Py_ssize_t stop, unsigned long long *number) noexcept:
    """The number at offset `at`, of its first 20 digits, in so many bits as there are; returns the offset after all of its digits."""
    cdef Py_ssize_t last = at + MOST_DIGITS
    while at < stop and c"0" <= text[at] <= c"9":
        if at < last:
            number[0] = number[0] * 10 + (text[at] - c"0")
        at += 1
    return at

# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/protocol/blocks.py: see there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy

cdef bytes END = b"END\r\n"


cdef class Blocks:

    def __cinit__(self, Py_ssize_t capacity):
        self._blocks = <Block *>PyMem_Malloc(max(capacity, 1) * sizeof(Block))
        if self._blocks == NULL:
            raise MemoryError
        self._capacity = capacity
        self._count = 0

    def __dealloc__(self):
        PyMem_Free(self._blocks)

    cpdef add(self, Py_ssize_t place, Py_ssize_t end):
        if self._count == self._capacity:
            raise IndexError("more values than keys")
        self._blocks[self._count].place = place
        self._blocks[self._count].end = end
        self._count += 1


cdef struct Part:
    const char *reply
    Block *next       # the first of its blocks that was not taken
    Block *stop       # and where they end
    Py_ssize_t asked  # how many of its keys have been passed
    Py_ssize_t taken  # how many of its bytes have been taken


cpdef bytes merge(list order, list replies, list blocks):
    cdef Py_ssize_t count = len(replies)
    cdef Part *parts = <Part *>PyMem_Malloc(max(count, 1) * sizeof(Part))
    if parts == NULL:
        raise MemoryError
    try:
        return _merge(order, parts, _describe(parts, replies, blocks))
    finally:
        PyMem_Free(parts)


cdef Py_ssize_t _describe(Part *parts, list replies, list blocks) except -1:
    """Fill in `parts`; returns how many bytes their blocks have together."""
    cdef Py_ssize_t number, size = 0
    cdef Blocks own
    cdef bytes reply
    for number in range(len(replies)):
        reply = replies[number]
        own = blocks[number]
        parts[number] = Part(PyBytes_AS_STRING(reply), own._blocks, own._blocks + own._count, 0, 0)
        if own._count:
            if own._blocks[own._count - 1].end > PyBytes_GET_SIZE(reply):
                raise ValueError("the blocks are not of this reply")
            size += own._blocks[own._count - 1].end
    return size


cdef bytes _merge(list order, Part *parts, Py_ssize_t size):
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(END))
    cdef char *to = PyBytes_AS_STRING(answer)
    cdef char *limit = to + size
    cdef Part *part
    cdef Py_ssize_t number, length
    for number in order:
        part = parts + number
        if part.next < part.stop and part.next.place == part.asked:
            length = part.next.end - part.taken
            memcpy(to, part.reply + part.taken, length)
            to += length
            part.taken = part.next.end
            part.next += 1
        part.asked += 1
    if to != limit:
        raise ValueError("there are values of keys that were not asked for")
    memcpy(to, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))
    return answer

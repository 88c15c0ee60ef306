# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/protocol/stream.py: see there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp

cdef enum:
    MAX_DIGITS = 10


cdef inline Py_ssize_t find(bytes data, int byte, Py_ssize_t start, Py_ssize_t stop):
    """The offset of `byte` in data[start:stop], or -1."""
    cdef const char *begin = PyBytes_AS_STRING(data)
    cdef const char *found
    if start >= stop:
        return -1
    found = <const char *>memchr(begin + start, byte, stop - start)
    return -1 if found == NULL else found - begin


cdef class Stream:

    def __init__(self):
        self.data = b""
        self.pos = 0
        self.need = 0
        self._searched = 0
        self._parts = []
        self._have = 0

    cpdef feed(self, bytes chunk):
        if self._have == 0:
            self._searched -= self.pos
            if self.pos == PyBytes_GET_SIZE(self.data):
                self.data = chunk
                self.pos = 0
                self._searched = 0
                return
            self._parts.append(self.data[self.pos:])
            self._have = PyBytes_GET_SIZE(self.data) - self.pos
            self.data = b""
            self.pos = 0
        self._parts.append(chunk)
        self._have += PyBytes_GET_SIZE(chunk)
        if self._have >= self.need:
            self.data = b"".join(self._parts)
            self._parts.clear()
            self._have = 0

    cpdef Py_ssize_t size(self):
        return self._have + PyBytes_GET_SIZE(self.data) - self.pos

    cpdef forget(self):
        if self.pos == PyBytes_GET_SIZE(self.data):
            self.data = b""
            self.pos = 0
            self._searched = 0

    cpdef bint ready(self):
        return self.pos < PyBytes_GET_SIZE(self.data)

    cpdef Py_ssize_t line_end(self, Py_ssize_t start):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.data)
        cdef Py_ssize_t end = find(self.data, 10, self._searched if self._searched > start else start, size)
        if end < 0:
            self._searched = size
        return end

    cpdef Py_ssize_t word_end(self, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t end = find(self.data, 32, start, stop)
        return stop if end < 0 else end

    cpdef Py_ssize_t find_nul(self, Py_ssize_t start, Py_ssize_t stop):
        return find(self.data, 0, start, stop)

    cpdef bytes cut(self, Py_ssize_t start, Py_ssize_t stop):
        if stop > PyBytes_GET_SIZE(self.data):
            stop = PyBytes_GET_SIZE(self.data)
        if start == 0 and stop == PyBytes_GET_SIZE(self.data):
            return self.data  # one message in one chunk, the usual case: no copy
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.data) + start, stop - start if stop > start else 0)

    cpdef bint begins(self, Py_ssize_t start, bytes text):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
        if start + size > PyBytes_GET_SIZE(self.data):
            return False
        return memcmp(PyBytes_AS_STRING(self.data) + start, PyBytes_AS_STRING(text), size) == 0

    cpdef bint equals(self, Py_ssize_t start, Py_ssize_t stop, bytes text):
        return stop - start == PyBytes_GET_SIZE(text) and self.begins(start, text)

    cpdef long long number(self, Py_ssize_t start, Py_ssize_t stop):
        cdef const char *text = PyBytes_AS_STRING(self.data)
        cdef long long number = 0
        if stop <= start or stop - start > MAX_DIGITS:
            return -1
        while start < stop:
            if not c"0" <= text[start] <= c"9":
                return -1
            number = number * 10 + (text[start] - c"0")
            start += 1
        return number

    cpdef bint all_digits(self, Py_ssize_t start, Py_ssize_t stop):
        cdef const char *text = PyBytes_AS_STRING(self.data)
        if stop <= start:
            return False
        while start < stop:
            if not c"0" <= text[start] <= c"9":
                return False
            start += 1
        return True

    cpdef wait_for(self, Py_ssize_t start, Py_ssize_t need):
        self.pos = start
        self.need = need

    cpdef Py_ssize_t drop(self, Py_ssize_t count):
        cdef Py_ssize_t available = PyBytes_GET_SIZE(self.data) - self.pos
        if available > count:
            available = count
        self.pos += available
        return available

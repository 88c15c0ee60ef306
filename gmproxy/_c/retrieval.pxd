cimport cython
from gmproxy._c.ring cimport Locator
from gmproxy._c.stream cimport Stream


cdef struct Span:
    int start
    int length


@cython.final
cdef class Keys:
    cdef bytes _text
    cdef Span *_spans
    cdef Py_ssize_t _count

    cdef int _allocate(self, Py_ssize_t capacity) except -1
    cpdef bytes line(self, bytes prefix)
    cpdef Division divide(self, Locator locator, Py_ssize_t servers)


cpdef Keys read_keys(Stream stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest)


@cython.final
cdef class Division:
    cdef readonly list parts
    cdef readonly list owners
    cdef int *_order
    cdef Py_ssize_t _count

    cdef int _share_out(self, Keys keys) except -1
    cpdef bytes merge(self, list replies, list blocks)


cdef struct Block:
    int place
    Py_ssize_t end


@cython.final
cdef class Blocks:
    cdef readonly Keys keys
    cdef public Py_ssize_t next
    cdef Block *_blocks
    cdef Py_ssize_t _count

    cpdef bint find(self, Stream stream, Py_ssize_t start, Py_ssize_t stop)
    cpdef add(self, Py_ssize_t end)
    cpdef Py_ssize_t pass_plain(self, Stream stream, Py_ssize_t start, Py_ssize_t before)

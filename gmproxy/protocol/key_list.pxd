cimport cython
from gmproxy.placement.locators cimport Locator
from gmproxy.protocol.recv_buffer cimport RecvBuffer


cdef struct Span:
    int start        # offset of the key in the text
    int length       # of the key
    Py_ssize_t end   # offset in the reply where its VALUE block ends; 0 if none has arrived


@cython.final
cdef class Memory:
    cdef char *at
    cdef Py_ssize_t size


@cython.final
cdef class KeyList:
    cdef public Py_ssize_t next
    cdef readonly Py_ssize_t values
    cdef char *_text
    cdef Memory _home
    cdef Memory _memory
    cdef Span *_spans
    cdef Py_ssize_t _count
    cdef Py_ssize_t _end

    cdef int _make_room(self, Py_ssize_t spans, Py_ssize_t text) except -1
    cdef int _more_room(self, Py_ssize_t spans) except -1

    cpdef bytes command_line(self, bytes prefix)
    cpdef KeyPartition partition(self, Locator locator, Py_ssize_t servers)
    cpdef clear_values(self)
    cpdef bint match_next(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef record_value(self, Py_ssize_t end)
    cpdef Py_ssize_t record_whole_values(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t before) noexcept


cdef class KeyListParser:
    cpdef KeyList parse_keys(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest)


@cython.final
cdef class KeyPartition:
    cdef readonly list parts
    cdef readonly list owners
    cdef Memory _memory
    cdef int *_order
    cdef Py_ssize_t _count

    cdef int _begin(self, KeyList keys, list owners) except -1
    cdef int _make_parts(self, KeyList keys, int *sizes, int groups) except -1
    cpdef bytes merge_replies(self, list requests)

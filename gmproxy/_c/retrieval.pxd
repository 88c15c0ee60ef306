cimport cython
from gmproxy._c.ring cimport Locator
from gmproxy._c.stream cimport Stream


cdef struct Span:
    int start        # in the text, of the key
    int length
    Py_ssize_t end   # in the reply, of its value; 0 if there is none


@cython.final
cdef class Keys:
    cdef public Py_ssize_t next
    cdef readonly Py_ssize_t values
    cdef bytes _text
    cdef bytes _memory
    cdef Span *_spans
    cdef Py_ssize_t _count
    cdef Py_ssize_t _end

    cpdef bytes line(self, bytes prefix)
    cpdef Division divide(self, Locator locator, Py_ssize_t servers)
    cpdef forget_values(self)
    cpdef bint find(self, Stream stream, Py_ssize_t start, Py_ssize_t stop)
    cpdef note(self, Py_ssize_t end)
    cpdef Py_ssize_t pass_plain(self, Stream stream, Py_ssize_t start, Py_ssize_t before)


cpdef Keys read_keys(Stream stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest)


@cython.final
cdef class Division:
    cdef readonly list parts
    cdef readonly list owners
    cdef bytes _memory
    cdef int *_order
    cdef Py_ssize_t _count

    cdef int _begin(self, Keys keys, list owners) except -1
    cdef int _share_out(self, Keys keys, Py_ssize_t groups) except -1
    cpdef bytes merge(self, list requests)

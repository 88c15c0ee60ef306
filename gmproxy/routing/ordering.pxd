cimport cython
from gmproxy.protocol.request cimport Request
from gmproxy.routing.router cimport Router


@cython.final
cdef class BatchOrder:
    cdef Router _router
    cdef set _keys_read
    cdef Py_ssize_t _seen
    cdef set _keys_held
    cdef Py_ssize_t _held_seen

    @cython.locals(held=set)
    cpdef bint must_wait(self, Request request, list batch) except -1
    cpdef finish_batch(self)
    @cython.locals(earlier=Request, number=Py_ssize_t)
    cdef set _keys_of_reads(self, list batch)
    @cython.locals(earlier=Request, number=Py_ssize_t)
    cdef set _held_keys(self, list batch)

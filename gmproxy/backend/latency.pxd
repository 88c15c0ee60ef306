cimport cython
from gmproxy.protocol.request cimport Request


@cython.final
cdef class Meter:
    cdef public double slow_threshold
    cdef readonly double total
    cdef object _tell
    cdef double[::1] _bounds
    cdef long long[::1] _buckets
    cdef Py_ssize_t _last

    @cython.locals(bucket=Py_ssize_t)
    cpdef took(self, double seconds, long long count)
    cpdef slow(self, Request request, double seconds)

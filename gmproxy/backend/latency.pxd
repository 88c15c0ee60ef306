cimport cython
from gmproxy.protocol.request cimport Request


@cython.final
cdef class Meter:
    cdef public double slow_threshold
    cdef readonly double total
    cdef object _on_slow
    cdef double[::1] _bounds
    cdef long long[::1] _buckets
    cdef Py_ssize_t _last

    @cython.locals(bucket=Py_ssize_t)
    cpdef took(self, double seconds, long long count)
    cpdef slow(self, Request request, double seconds)


@cython.final
cdef class ReplyTimer:
    cdef object _flushes
    cdef long long _timed
    cdef double _replied_at

    cpdef bint is_running(self) except -1
    cpdef flushed(self, double now, long long replied, long long pending)
    cpdef bint received(self, double now, Meter meter) except -1
    cpdef count_replies(self, Meter meter, long long replied)
    cpdef note_slow(self, Request request, Meter meter, long long replied)
    @cython.locals(sent_at=double, sent=cython.longlong, reached=cython.longlong)
    cdef _count_replies(self, Meter meter, long long replied)

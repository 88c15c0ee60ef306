cimport cython
from gmproxy.protocol.commands cimport Command


@cython.final
cdef class BackendCounters:
    cdef public long long keys_asked
    cdef public long long values_found
    cdef public long long failures
    cdef readonly dict errors
    cdef public long long not_connected
    cdef public long long connects
    cdef public long long fills
    cdef public long long keys_deleted
    cdef public long long flushes
    cdef readonly str last_error
    cdef readonly double last_error_at
    cdef long long[::1] _replies

    cpdef count_reply(self, Command command)

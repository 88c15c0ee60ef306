cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport Request

cdef int HIT, MISS, BADVAL, OUTCOMES, LETTER_C, LETTER_E, LETTER_F, LETTER_N, LETTER_O, LETTER_X


@cython.final
cdef class BackendCounters:
    cdef public long long keys_asked
    cdef public long long values_found
    cdef public long long keys_touched
    cdef public long long touches_found
    cdef public long long failures
    cdef readonly dict errors
    cdef public long long not_connected
    cdef public long long connects
    cdef public long long fills
    cdef public long long fills_undone
    cdef public long long keys_deleted
    cdef public long long flushes
    cdef readonly str last_error
    cdef readonly double last_error_at
    cdef long long[::1] _replies
    cdef long long[::1] _outcomes

    cpdef count_reply(self, Command command)
    cpdef count_touches(self, Command command, Py_ssize_t asked, Py_ssize_t found)
    @cython.locals(reply=bytes, first=int, second=int, outcome=int, number=Py_ssize_t)
    cpdef count_write(self, Request request)

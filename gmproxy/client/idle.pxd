cimport cython


@cython.final
cdef class IdleClients:
    cdef readonly object sessions
    cdef readonly tuple state
    cdef public bint after_next_reply

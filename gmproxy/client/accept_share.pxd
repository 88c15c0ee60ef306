cimport cython


@cython.final
cdef class AcceptShare:
    cdef readonly Py_ssize_t max_accept
    cdef object _context
    cdef object _counts
    cdef Py_ssize_t _number
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _clients_then
    cdef list _accepted_then
    cdef bint _is_flooded
    cdef bint _is_spare
    cdef bint _is_paused
    cdef Py_ssize_t _left

    cpdef accepted(self, Py_ssize_t count)
    @cython.locals(seconds=double)
    cpdef double pause(self) except -1
    cpdef resume(self)
    @cython.locals(clients=Py_ssize_t, stay=bint, others_accept=bint, accepted=list)
    cdef double _pause(self) except -1
    cdef bint _another_took_more(self, list accepted) except -1

cimport cython
from gmproxy.backend.interfaces cimport ConnectionOwner
from gmproxy.protocol.request cimport Request


cdef class MissedWrites(ConnectionOwner):
    cdef readonly str label
    cdef readonly object log
    cdef readonly str log_name
    cdef readonly object invalidations
    cdef public bint behind
    cdef readonly object shared_invalidations
    cdef readonly object stand_in_keys
    cdef readonly dict fetches
    cdef unsigned char[::1] _states
    cdef Py_ssize_t _worker_number
    cdef bint _stand_in_keys_overflowed

    cdef bint _may_read_stale(self, Request request) except -1
    cpdef bint may_have_stale_keys(self) except -1
    cpdef bint may_be_stale(self, bytes key, bint is_write) except -1
    @cython.locals(number=Py_ssize_t)
    cdef bint _others_have_any(self) except -1

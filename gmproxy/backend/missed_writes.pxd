cimport cython
from gmproxy.backend.interfaces cimport ConnectionOwner
from gmproxy.protocol.request cimport Request
from gmproxy.shared.changes cimport ChangeNotes, Note

cdef int _FRESH, _HERE, _ELSEWHERE


cdef class MissedWrites(ConnectionOwner):
    cdef readonly str label
    cdef readonly object log
    cdef readonly str log_name
    cdef readonly object invalidations
    cdef public bint behind
    cdef readonly ChangeNotes notes
    cdef readonly unsigned long tag
    cdef readonly object marks
    cdef public object followers
    cdef readonly object stand_in_keys
    cdef readonly dict fetches
    cdef unsigned char[::1] _states
    cdef unsigned long long[::1] _columns_used
    cdef Py_ssize_t _column
    cdef bytes _name
    cdef bytes _stand_in_name
    cdef object _stand_in_marks
    cdef object _journal
    cdef dict _fills
    cdef bint _stand_in_keys_overflowed

    cdef int _staleness(self, Request request) except -1
    cdef int _staleness_of(self, bytes key) except -1
    cpdef bint may_have_stale_keys(self) except -1
    cpdef bint may_be_stale(self, bytes key) except -1
    cpdef bint others_may_delete(self, bytes key) except -1
    @cython.locals(column=Py_ssize_t)
    cdef bint _others_have_any(self) except -1

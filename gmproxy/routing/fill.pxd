from gmproxy.protocol.request cimport Asker, Request


cdef class Fetching(Asker):
    cdef readonly Request request
    cdef object primary
    cdef object router
    cdef Py_ssize_t left
    cdef bint in_doubt

    cpdef answered(self, Request question)
    cpdef abandoned(self, Request question)


cdef class Refill(Fetching):
    cdef dict values
    cdef Py_ssize_t _had


cdef class MetaRefill(Fetching):
    cpdef answered(self, Request question)


cdef class Fetch(Fetching):
    cpdef abandoned(self, Request question)

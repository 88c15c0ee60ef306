from gmproxy.protocol.request cimport ReplySink, Request, new_request


cdef class Fetching(ReplySink):
    cdef readonly Request request
    cdef object primary
    cdef object router
    cdef Py_ssize_t left
    cdef bint in_doubt

    cpdef on_reply(self, Request question)
    cpdef on_internal_error(self, Request question)


cdef class Refill(Fetching):
    cdef dict values
    cdef Py_ssize_t _had


cdef class MetaRefill(Fetching):
    cpdef on_reply(self, Request question)


cdef class Fetch(Fetching):
    cpdef on_internal_error(self, Request question)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.shard cimport Shard


cdef class Fetching(ReplySink):
    cdef readonly Request request
    cdef readonly object primary
    cdef object source
    cdef object adds
    cdef Py_ssize_t left
    cdef bint in_doubt

    cpdef on_reply(self, Request question)
    cpdef on_failure(self, Request question)
    cpdef on_internal_error(self, Request question)


cdef class Refill(Fetching):
    cdef dict values
    cdef Py_ssize_t _had


cdef class MetaRefill(Fetching):
    cpdef on_reply(self, Request question)
    cpdef on_failure(self, Request question)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request


cdef class Fetch(ReplySink):
    cdef readonly Request request
    cdef readonly object primary
    cdef object source
    cdef object fill_writes
    cdef object rules
    cdef object _keys
    cdef Py_ssize_t left
    cdef readonly bint in_doubt
    cdef readonly bint returns_cas

    cpdef on_reply(self, Request lookup)
    cpdef on_failure(self, Request lookup)
    cpdef on_internal_error(self, Request lookup)


cdef class FetchForRead(Fetch):
    cdef dict values
    cdef Py_ssize_t _on_primary


cdef class FetchForMetaGet(Fetch):
    cpdef on_reply(self, Request lookup)
    cpdef on_failure(self, Request lookup)

from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step


cdef class Sources(Route):
    cdef readonly list shards
    cdef readonly Py_ssize_t sets

    cpdef send(self, Request request)


cdef class Lookup(Step):
    cdef readonly str error
    cdef readonly str failed_server
    cdef list _shards
    cdef Py_ssize_t _number

    cpdef begin(self, Request request, list shards)
    cpdef ask_next(self, Request request)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cdef _go_on(self, Request request)

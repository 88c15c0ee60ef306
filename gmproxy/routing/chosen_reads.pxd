from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
cimport cython
from gmproxy.routing.shard cimport Shard


cdef class ChosenReads(Route):
    cdef readonly Route main
    cdef readonly list sets
    cdef readonly list chains
    cdef Py_ssize_t _turn

    @cython.locals(command=Command, chains=list, count=Py_ssize_t, shard=Shard)
    cpdef send(self, Request request)
    @cython.locals(server=Backend)
    cdef bint _can_answer(self, Shard shard, Request request) except -1


cdef bint _is_up(Backend server) except -1

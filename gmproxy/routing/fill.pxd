cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.fetch cimport Fetching
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step

cdef class Fill(Route):
    cdef readonly Backend server
    cdef readonly Shard source
    cdef readonly Route adds

    @cython.locals(check=MissCheck)
    cpdef send(self, Request request)
    cpdef missed(self, Request request)


cdef class MissCheck(Step):
    cdef public Fill route

    cpdef on_reply(self, Request request)
    @cython.locals(asked=Py_ssize_t)
    cdef bint _is_miss(self, Request request) except -1


cdef class Adds(Route):
    cdef readonly Backend server
    cdef readonly object notes
    cdef public bint replaced

    cpdef send(self, Request request)


cdef class FillBeforeChange(Route):
    cdef readonly Route main
    cdef readonly Fill fill
    cdef readonly set held
    cdef readonly object release

    @cython.locals(fill=Fill)
    cpdef send(self, Request request)


cdef class FetchFirst(Fetching):
    cdef FillBeforeChange route

    cpdef on_internal_error(self, Request question)

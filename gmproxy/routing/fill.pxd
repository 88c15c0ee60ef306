cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.failover cimport Failover, PrimaryAttempt
from gmproxy.routing.fetch cimport Fetch
from gmproxy.routing.sources cimport Sources
from gmproxy.routing.step cimport Step

cdef class Fill(Route):
    cdef readonly Backend server
    cdef readonly Sources source
    cdef readonly Py_ssize_t sets
    cdef readonly Route fill_writes
    cdef readonly object rules

    @cython.locals(check=MissCheck)
    cpdef send(self, Request request)
    cpdef bint is_needed(self) except -1
    @cython.locals(asked=Py_ssize_t)
    cpdef complete(self, Request read)
    cpdef fill_after(self, Request read)


cdef class MissCheck(Step):
    cdef public Fill route

    cpdef on_reply(self, Request request)


cdef class FillOrFailover(Failover):
    cdef readonly Fill fill

    @cython.locals(attempt=ReadAttempt)
    cpdef send(self, Request request)


cdef class ReadAttempt(PrimaryAttempt):
    cdef public Fill fill

    cpdef on_reply(self, Request request)


cdef class FillWrites(Route):
    cdef readonly Backend server
    cdef readonly object home_ring
    cdef public bint replaced

    cpdef send(self, Request request)


cdef class FillBeforeWrite(Route):
    cdef readonly Route next_route
    cdef readonly Fill fill
    cdef readonly set held
    cdef readonly object release

    @cython.locals(command=Command, server=Backend)
    cpdef send(self, Request request)


cdef class FetchForWrite(Fetch):
    cdef FillBeforeWrite route

    cpdef on_internal_error(self, Request lookup)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step

cdef int BACKUP


cdef class Failover(Route):
    cdef readonly Route main
    cdef readonly Route backup

    cpdef send(self, Request request)
    @cython.locals(attempt=Attempt)
    cdef Attempt _attempt(self, Request request)


cdef class Attempt(Step):
    cdef public Route backup

    @cython.locals(question=Request)
    cpdef on_failure(self, Request request)


cdef class Substitute(ReplySink):
    cdef readonly Request request

    @cython.locals(request=Request)
    cpdef on_reply(self, Request question)
    @cython.locals(request=Request)
    cpdef on_failure(self, Request question)
    cpdef on_internal_error(self, Request question)


cdef class Standby(Failover):
    cdef readonly Shard backups

    @cython.locals(attempt=Attempt)
    cpdef send(self, Request request)


cdef class ActingMain(Route):
    cdef readonly Backend server
    cdef readonly bint keeps_guests

    @cython.locals(server=Backend, command=Command, guest=GuestChange)
    cpdef send(self, Request request)


cdef class GuestChange(Step):
    cdef public Backend server

    cpdef on_reply(self, Request request)


cdef class CasMarks(Step):
    cpdef on_reply(self, Request request)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.change cimport Change, PartOfChanges
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step
from gmproxy.shared.changes cimport ChangeNotes

cdef int BACKUP
cdef int PRIMARY_WORD, BACKUP_WORD


cdef class Failover(Route):
    cdef readonly Route primary
    cdef readonly Route backup

    cpdef send(self, Request request)
    @cython.locals(attempt=PrimaryAttempt)
    cdef PrimaryAttempt _begin_attempt(self, Request request)


cdef class PrimaryAttempt(Step):
    cdef public Route backup

    @cython.locals(retry=Request)
    cpdef on_failure(self, Request request)


cdef class FailoverReply(ReplySink):
    cdef readonly Request request

    @cython.locals(request=Request)
    cpdef on_reply(self, Request retry)
    @cython.locals(request=Request)
    cpdef on_failure(self, Request retry)
    cpdef on_internal_error(self, Request retry)


cdef class WriteFailover(Failover):
    cdef readonly Backend server
    cdef readonly Shard backups
    cdef readonly RouteCounters counters

    @cython.locals(attempt=PrimaryAttempt)
    cpdef send(self, Request request)
    @cython.locals(change=Change, changes=list)
    cdef _note_changes(self, Request request)


cdef class BackupAsPrimary(Route):
    cdef readonly Backend server
    cdef readonly bint records_keys
    cdef readonly Route next_route
    cdef readonly Py_ssize_t sets
    cdef readonly long max_life

    @cython.locals(server=Backend, command=Command, write=FailedOverWrite, numbers=MarkCasNumbers)
    cpdef send(self, Request request)
    @cython.locals(notes=ChangeNotes, own=cython.ulonglong)
    cdef bint _are_under_way(self, Request request) except -1


cdef class FailedOverWrite(Step):
    cdef public Backend server

    cpdef on_reply(self, Request request)


cdef class MarkCasNumbers(Step):
    cdef public int of_set

    cpdef on_reply(self, Request request)

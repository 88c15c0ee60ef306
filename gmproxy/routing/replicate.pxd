cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step

cdef int WAITING, ANSWERED, FAILED
cdef int COPY


cdef class UndecidedChanges:
    cdef readonly dict by_key

    @cython.locals(outcome=Outcome)
    cpdef overtake(self, bytes key)
    cpdef note_outcome(self, Outcome outcome, bytes key)
    cpdef forget_outcome(self, Outcome outcome, bytes key)


cdef class Replicate(Route):
    cdef readonly Backend server
    cdef readonly Route main
    cdef readonly Shard backups
    cdef readonly Route acting_main
    cdef readonly UndecidedChanges undecided
    cdef readonly bint waited_for
    cdef readonly RouteCounters counters
    cdef UnwatchedCopy _unwatched

    @cython.locals(command=Command, outcome=Outcome)
    cpdef send(self, Request request)
    @cython.locals(step=CopiedChange)
    cdef _send_twice(self, Request request)
    @cython.locals(command=Command, line=bytes)
    cdef _copy_touch(self, Request request, bytes key)
    @cython.locals(backup=Backend)
    cdef bint _is_same_server(self, bytes key) except -1
    @cython.locals(command=Command, line=bytes, step=CopiedChange)
    cpdef send_outcome(self, Request request, bint overtaken)
    @cython.locals(command=Command, line=bytes)
    cpdef delete_copy(self, bytes key)
    @cython.locals(copy=Request, backup=Backend)
    cdef _send_unwatched(self, Command command, bytes key, bytes line)
    cpdef note_unknown(self, bytes key)


cdef class CopiedChange(Step):
    cdef readonly Replicate route
    cdef readonly Request request
    cdef readonly Request copy
    cdef int _on_main
    cdef int _on_backup

    cpdef begin(self, Request request, Replicate route, int on_main)
    @cython.locals(copy=Request, key=bytes, backup=Backend)
    cpdef send_copy(self, Command command, bytes line)
    cpdef on_reply(self, Request one)
    cpdef on_failure(self, Request one)
    cpdef proceed(self, Request last)
    @cython.locals(request=Request, copy=Request)
    cdef _compare(self)
    @cython.locals(request=Request)
    cdef _answer(self, Request last)
    cpdef on_internal_error(self, Request one)


cdef class Outcome(Step):
    cdef readonly Replicate route
    cdef public bint overtaken

    cpdef begin(self, Request request, Replicate route)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)


cdef class UnwatchedCopy(ReplySink):
    cdef RouteCounters _counters

    cpdef on_reply(self, Request copy)
    cpdef on_failure(self, Request copy)
    cpdef on_internal_error(self, Request copy)

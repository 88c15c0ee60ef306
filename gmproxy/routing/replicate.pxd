cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.shard cimport Shard
from gmproxy.routing.step cimport Step

cdef int WAITING, REPLIED, FAILED
cdef int COPY


cdef class UndecidedWrites:
    cdef readonly dict by_key

    @cython.locals(write=ConditionalWrite)
    cpdef supersede(self, bytes key)
    cpdef add_write(self, ConditionalWrite write, bytes key)
    cpdef remove_write(self, ConditionalWrite write, bytes key)


cdef class Replicate(Route):
    cdef readonly Backend server
    cdef readonly Route primary_route
    cdef readonly Shard backups
    cdef readonly Route backup_as_primary
    cdef readonly UndecidedWrites undecided
    cdef readonly bint waits_for_copy
    cdef readonly RouteCounters counters
    cdef UnawaitedCopy _unawaited

    @cython.locals(command=Command, write=ConditionalWrite)
    cpdef send(self, Request request)
    @cython.locals(step=ReplicatedWrite)
    cdef _send_twice(self, Request request)
    @cython.locals(command=Command, line=bytes)
    cdef _copy_touch(self, Request request, bytes key)
    @cython.locals(backup=Backend)
    cdef bint _is_same_server(self, bytes key) except -1
    @cython.locals(command=Command, line=bytes, step=ReplicatedWrite)
    cpdef replicate_result(self, Request request, bint superseded)
    @cython.locals(command=Command, line=bytes)
    cpdef delete_copy(self, bytes key)
    @cython.locals(copy=Request, backup=Backend)
    cdef _send_unawaited(self, Command command, bytes key, bytes line)
    cpdef invalidate_key(self, bytes key)


cdef class ReplicatedWrite(Step):
    cdef readonly Replicate route
    cdef readonly Request request
    cdef readonly Request copy
    cdef int _on_primary
    cdef int _on_backup

    cpdef begin(self, Request request, Replicate route, int on_primary)
    @cython.locals(copy=Request, key=bytes, backup=Backend)
    cpdef send_copy(self, Command command, bytes line)
    cpdef on_reply(self, Request one)
    cpdef on_failure(self, Request one)
    cpdef proceed(self, Request last)
    @cython.locals(request=Request, copy=Request)
    cdef _compare(self)
    @cython.locals(request=Request)
    cdef _reply(self, Request last)
    cpdef on_internal_error(self, Request one)


cdef class ConditionalWrite(Step):
    cdef readonly Replicate route
    cdef public bint superseded

    cpdef begin(self, Request request, Replicate route)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)


cdef class UnawaitedCopy(ReplySink):
    cdef RouteCounters _counters

    cpdef on_reply(self, Request copy)
    cpdef on_failure(self, Request copy)
    cpdef on_internal_error(self, Request copy)

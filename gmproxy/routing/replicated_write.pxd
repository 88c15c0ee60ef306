cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.change cimport AnswerOfBackup, Change
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.step cimport Step

cdef int WAITING, REPLIED, FAILED


cdef class UndecidedWrites:
    cdef readonly dict by_key

    @cython.locals(write=ConditionalWrite)
    cpdef supersede(self, bytes key)
    cpdef add_write(self, ConditionalWrite write, bytes key)
    cpdef remove_write(self, ConditionalWrite write, bytes key)


cdef class ReplicatedWrite(Change):
    cdef readonly Request request
    cdef readonly Request copy
    cdef readonly bint waits_for_copy
    cdef int _on_primary
    cdef int _on_backup

    cpdef begin(self, Backend primary, Backend backup, bytes key, int word, RouteCounters counters)
    cpdef wait_for(self, Request request, bint waits_for_copy, bint primary_replied)
    @cython.locals(copy=Request)
    cpdef replicate(self, Command command, bytes line)
    cpdef on_reply(self, Request one)
    cpdef on_failure(self, Request one)
    cdef _proceed_and_end_part(self, Request last)
    cpdef proceed(self, Request last)
    @cython.locals(request=Request, copy=Request)
    cdef _compare(self)
    @cython.locals(request=Request)
    cdef _reply(self, Request last)
    cpdef on_internal_error(self, Request one)
    cdef _end_part(self)
    cdef _end_part_of(self, Request one)


cdef class ConditionalWrite(Step):
    cdef readonly ReplicatedWrite change
    cdef readonly UndecidedWrites undecided
    cdef readonly Route backup_as_primary
    cdef readonly bint waits_for_copy
    cdef public bint superseded

    cpdef begin(self, Request request, ReplicatedWrite change, UndecidedWrites undecided, Route backup_as_primary, bint waits_for_copy)
    cpdef on_reply(self, Request request)
    @cython.locals(change=ReplicatedWrite, command=Command, line=bytes)
    cdef _replicate_result(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)


cdef class WriteWithoutCopy(Step):
    cdef readonly Change change
    cdef readonly Route backup_as_primary

    cpdef begin(self, Request request, Change change, Route backup_as_primary)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)

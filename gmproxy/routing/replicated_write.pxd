cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.change cimport AnswerOfBackup, Change
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.step cimport Step

cdef int NO_RESULT, WAITING, FAILED, REPLIED, COMPARED


cdef class UndecidedWrites:
    cdef readonly dict by_key

    @cython.locals(write=ConditionalWrite)
    cpdef supersede(self, bytes key)
    cpdef add_write(self, ConditionalWrite write, bytes key)
    cpdef remove_write(self, ConditionalWrite write, bytes key)


cdef class ReplicatedWrite(Change):
    cdef readonly Request request
    cdef readonly list sent
    cdef readonly Py_ssize_t acks
    cdef readonly bint waits_for_all

    cpdef begin(self, Backend primary, list copies, bytes key, int word, RouteCounters counters)
    cpdef wait_for(self, Request request, Py_ssize_t acks, bint waits_for_all, bint primary_replied)
    @cython.locals(copy=Request, first=Py_ssize_t, number=Py_ssize_t, server=Backend)
    cpdef replicate(self, Command command, bytes line)
    cpdef on_reply(self, Request one)
    cpdef on_failure(self, Request one)
    cdef _proceed_and_end_part(self, Request last)
    @cython.locals(first=Request, part=Request, acks=Py_ssize_t, waiting=Py_ssize_t, number=Py_ssize_t, result=int)
    cpdef proceed(self, Request last)
    @cython.locals(copy=Request, number=Py_ssize_t)
    cdef _compare(self, Request first)
    @cython.locals(request=Request)
    cdef _reply(self, Request first, Py_ssize_t acks, Request last)
    cdef bint _may_not_answer(self, Request request, Request copy) except -1
    @cython.locals(part=Request, number=Py_ssize_t)
    cdef _fail_for_acks(self, Request request)
    cpdef on_internal_error(self, Request one)
    cdef _end_part(self)
    cdef _end_part_of(self, Request one)


cdef class ConditionalWrite(Step):
    cdef readonly ReplicatedWrite change
    cdef readonly UndecidedWrites undecided
    cdef readonly Route next_route
    cdef readonly object rules
    cdef readonly bint deletes
    cdef public bint superseded

    cpdef begin(self, Request request, ReplicatedWrite change, UndecidedWrites undecided, Route next_route, object rules, bint deletes)
    cpdef on_reply(self, Request request)
    @cython.locals(change=ReplicatedWrite, command=Command, line=bytes)
    cdef _replicate_result(self, Request request)
    @cython.locals(change=ReplicatedWrite)
    cdef _after_copies(self, Request request, ReplySink session)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)


cdef class WriteWithoutCopy(Step):
    cdef readonly Change change
    cdef readonly Route next_route
    cdef readonly bint is_enough

    cpdef begin(self, Request request, Change change, Route next_route, bint is_enough)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)

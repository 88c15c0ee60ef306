cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, new_request
from gmproxy.placement.locators cimport Locator


cdef class Copies:
    cdef object router
    cdef readonly list backups
    cdef Locator locator
    cdef readonly bint waited_for
    cdef readonly long long lost
    cdef readonly long long differed
    cdef dict _undecided

    cpdef backup_of(self, bytes key)
    @cython.locals(outcome=Outcome)
    cpdef mirror_write(self, Request request, object primary)
    cdef bint _is_same_server(self, bytes key, object primary) except -1
    @cython.locals(copy=Request)
    cdef _send_twin(self, Request request, Command command, bytes line)
    @cython.locals(reply=bytes, line=bytes, command=Command)
    cdef _send_value(self, Request request)
    cdef _submit(self, Request copy)
    @cython.locals(copy=Request)
    cpdef on_reply(self, Request request)
    cdef _copy_answered(self, Request copy, Request request)
    cdef _compare(self, Request request, Request copy)


cdef class Outcome(ReplySink):
    cdef ReplySink sink
    cdef Copies copies
    cdef public bint overtaken

    cpdef on_reply(self, Request request)
    cpdef on_internal_error(self, Request request)

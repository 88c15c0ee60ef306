cimport cython
from gmproxy.protocol.request cimport Asker, Request, Verb
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
    cpdef send(self, Request request, object primary)
    cdef bint _is_same_server(self, bytes key, object primary) except -1
    @cython.locals(copy=Request)
    cdef _send_twin(self, Request request, Verb verb, bytes line)
    @cython.locals(reply=bytes, line=bytes, verb=Verb)
    cdef _send_value(self, Request request)
    cdef _submit(self, Request copy)
    @cython.locals(copy=Request)
    cpdef answered(self, Request request)
    cdef _copy_answered(self, Request copy, Request request)
    cdef _compare(self, Request request, Request copy)


cdef class Outcome(Asker):
    cdef Asker owner
    cdef Copies copies
    cdef public bint overtaken

    cpdef answered(self, Request request)
    cpdef abandoned(self, Request request)

from gmproxy.protocol.request cimport ReplySink, Request


cdef class Step(ReplySink):
    cdef readonly ReplySink sink

    cpdef step_in(self, Request request)
    cpdef step_out(self, Request request)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)

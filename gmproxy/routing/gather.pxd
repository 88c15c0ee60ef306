cimport cython
from gmproxy.protocol.request cimport ReplySink, Request
from gmproxy.protocol.key_list cimport KeyPartition


cdef class Gather(ReplySink):
    cdef readonly Request request
    cdef KeyPartition division
    cdef Py_ssize_t left
    cdef readonly list parts
    cdef list failed

    cpdef begin(self, Request request, KeyPartition division)
    cpdef on_reply(self, Request part)
    cpdef on_failure(self, Request part)
    cpdef on_internal_error(self, Request part)
    @cython.locals(request=Request, first=Request)
    cdef _finish(self)
    @cython.locals(parts=list, part=Request)
    cdef bytes _join(self)
    cdef bytes _piece_together(self)


cdef class Gatherer:
    @cython.locals(gather=Gather)
    cpdef Gather gather(self, Request request, KeyPartition division)


cdef class FanOut(ReplySink):
    cdef readonly Request request
    cdef Py_ssize_t left
    cdef object trouble
    cdef Request failed

    cpdef on_reply(self, Request part)
    cpdef on_failure(self, Request part)
    cpdef on_internal_error(self, Request part)
    cdef _count(self)

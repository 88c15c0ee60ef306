cimport cython
from gmproxy.protocol.request cimport ReplySink, Request
from gmproxy.protocol.key_list cimport KeyPartition


cdef class Gather(ReplySink):
    cdef readonly Request request
    cdef KeyPartition partition
    cdef Py_ssize_t left
    cdef readonly list parts
    cdef list failed

    cpdef begin(self, Request request, KeyPartition partition)
    cpdef on_reply(self, Request part)
    cpdef on_failure(self, Request part)
    cpdef on_internal_error(self, Request part)
    @cython.locals(request=Request, parts=list, first=Request)
    cdef _finish(self)
    @cython.locals(part=Request, reply=bytes)
    cdef bytes _join(self, list parts)
    @cython.locals(part=Request)
    cdef bytes _join_blocks(self, list parts)


cdef class Gatherer:
    @cython.locals(gather=Gather)
    cpdef Gather gather(self, Request request, KeyPartition partition)


cdef class FanOut(ReplySink):
    cdef readonly Request request
    cdef Py_ssize_t left
    cdef object other_reply
    cdef Request failed

    cpdef on_reply(self, Request part)
    cpdef on_failure(self, Request part)
    cpdef on_internal_error(self, Request part)
    cdef _count_part(self)

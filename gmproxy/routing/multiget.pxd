cimport cython
from gmproxy.protocol.request cimport Asker, Request
from gmproxy.protocol.key_list cimport Division


cdef class Gather(Asker):
    cdef readonly Request request
    cdef Division division
    cdef Py_ssize_t left
    cdef readonly list parts

    cpdef begin(self, Request request, Division division)
    @cython.locals(request=Request)
    cpdef answered(self, Request part)
    cpdef abandoned(self, Request part)
    @cython.locals(parts=list, part=Request)
    cdef bytes _join(self)
    cdef bytes _piece_together(self)


cdef class Gatherer:
    @cython.locals(gather=Gather)
    cpdef Gather gather(self, Request request, Division division)


cdef class FanOut(Asker):
    cdef readonly Request request
    cdef Py_ssize_t left
    cdef object trouble

    cpdef answered(self, Request part)
    cpdef abandoned(self, Request part)

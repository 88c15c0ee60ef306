cimport cython
from gmproxy._c.backend cimport Backend
from gmproxy._c.message cimport Asker, Request
from gmproxy._c.ring cimport Locator


cdef class Router:
    cdef readonly list backends
    cdef readonly list backups
    cdef Locator locator
    cdef Locator backup_locator
    cdef list _copyists
    cdef object _place
    cdef readonly object options
    cdef readonly long long misses_for_errors
    cdef readonly long long copies_lost

    @cython.locals(backend=Backend)
    cpdef route(self, Request request)
    @cython.locals(current=list, groups=list, owners=list, order=list, group=list, gather=Gather, part=Request, key=bytes,
                   index=Py_ssize_t, number=Py_ssize_t, room=Py_ssize_t)
    cdef _split(self, Request request, list servers, Locator locator, int stage)
    @cython.locals(copy=Request)
    cdef _copy(self, Request request)
    @cython.locals(copy=Request)
    cdef _copy_touch(self, Request request, bytes key)
    @cython.locals(copy=Request)
    cpdef copy_value(self, Request request)
    cpdef missed(self, Request request, Backend backend)
    cpdef failed(self, Request request, Backend backend, str reason)


cdef class Gather(Asker):
    cdef readonly Request request
    cdef list order
    cdef Py_ssize_t left
    cdef readonly list parts

    @cython.locals(request=Request)
    cpdef answered(self, Request part)
    @cython.locals(parts=list, part=Request, merged=bint)
    cdef bytes _join(self)
    @cython.locals(parts=list, asked=list, taken=list, pieces=list, part=Request, number=Py_ssize_t, last=Py_ssize_t,
                   start=Py_ssize_t, end=Py_ssize_t, place=Py_ssize_t, value=Py_ssize_t)
    cdef bytes _merge(self)
    cdef bytes _piece_together(self)


cdef class CopyIfStored(Asker):
    cdef Asker owner
    cdef Router router

    cpdef answered(self, Request request)


cdef class FanOut(Asker):
    cdef readonly Request request
    cdef Py_ssize_t left
    cdef object trouble

    cpdef answered(self, Request part)


cdef class Heir(Asker):
    cdef readonly Request request

    @cython.locals(request=Request)
    cpdef answered(self, Request other)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.routing.replicate cimport Copies
from gmproxy.protocol.request cimport ReplySink, Request, new_request
from gmproxy.routing.multiget cimport Gather, Gatherer
from gmproxy.protocol.key_list cimport KeyPartition, KeyList
from gmproxy.placement.locators cimport Locator

cdef Gatherer GATHERER


@cython.locals(backend=Backend)
cdef bint some_may_be_old(list servers) except -1


cdef class Router:
    cdef readonly list backends
    cdef readonly list backups
    cdef readonly Locator locator
    cdef readonly Copies copies
    cdef readonly bint copying
    cdef readonly object detour
    cdef readonly Py_ssize_t unready
    cdef object _place
    cdef readonly object options
    cdef public long long misses_for_errors
    cdef public object sampler
    cdef public long long fragments
    cdef Py_ssize_t _to_skip

    @cython.locals(backend=Backend)
    cpdef route(self, Request request)
    cdef _sample(self, Request request)
    cdef _change(self, Request request, Backend backend)
    @cython.locals(backend=Backend)
    cpdef ready(self, Request request)
    cpdef never_ready(self, Request request)
    cdef bint _may_leave_guests(self, Request request) except -1
    cpdef fill(self, Request request, Backend backend)
    cpdef primary_of(self, bytes key)
    @cython.locals(division=KeyPartition, keys=KeyList, part=Request, gather=Gather, number=Py_ssize_t, parts=list, backend=Backend)
    cdef _split(self, Request request, list servers, Locator locator, int stage)
    @cython.locals(backend=Backend, key=bytes, index=Py_ssize_t, room=Py_ssize_t, changes=bint)
    cdef _divide_with_care(self, Request request, list servers, Locator locator)
    cpdef missed(self, Request request, Backend backend)
    cpdef failed(self, Request request, Backend backend, str reason)
    @cython.locals(mirror=Request)
    cpdef on_internal_error(self, Request request)


cdef class Heir(ReplySink):
    cdef readonly Request request

    @cython.locals(request=Request)
    cpdef on_reply(self, Request other)
    @cython.locals(request=Request)
    cpdef on_internal_error(self, Request other)

cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.placement.locators cimport Locator
from gmproxy.protocol.key_list cimport KeyList, KeyPartition
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.gather cimport Gather, Gatherer

cdef Gatherer GATHERER


@cython.locals(backend=Backend)
cdef bint some_may_be_old(list servers) except -1


cdef class Shard(Route):
    cdef readonly Locator locator
    cdef readonly list servers
    cdef readonly list reads
    cdef readonly list changes
    cdef RouteCounters _counters

    cpdef Backend server_of(self, bytes key)
    @cython.locals(route=Route, routes=list)
    cpdef send(self, Request request)
    @cython.locals(division=KeyPartition, keys=KeyList, part=Request, gather=Gather, number=Py_ssize_t, parts=list, route=Route, routes=list,
                   is_change=bint)
    cdef _split(self, Request request)
    @cython.locals(backend=Backend, key=bytes, index=Py_ssize_t, room=Py_ssize_t, changes=bint)
    cdef _divide_with_care(self, Request request)

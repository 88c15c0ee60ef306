cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.placement.locators cimport Locator
from gmproxy.protocol.key_list cimport KeyList, KeyPartition
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.gather cimport Gather, Gatherer

cdef Gatherer GATHERER


@cython.locals(backend=Backend)
cdef bint some_may_have_stale_keys(list servers) except -1


cdef class Shard(Route):
    cdef readonly Locator locator
    cdef readonly list servers
    cdef readonly list reads
    cdef readonly list writes
    cdef RouteCounters _counters

    cpdef Backend server_of(self, bytes key)
    @cython.locals(route=Route, routes=list)
    cpdef send(self, Request request)
    @cython.locals(partition=KeyPartition, keys=KeyList, part=Request, gather=Gather, number=Py_ssize_t, parts=list, route=Route, routes=list,
                   is_write=bint)
    cdef _split(self, Request request)
    @cython.locals(backend=Backend, key=bytes, index=Py_ssize_t, size=Py_ssize_t, is_write=bint)
    cdef _partition_by_staleness(self, Request request)

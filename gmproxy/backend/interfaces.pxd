from gmproxy.backend.latency cimport Meter
from gmproxy.protocol.request cimport Request, Route


cdef class ConnectionOwner(Route):
    cdef public Meter meter
    cdef public long long bytes_sent
    cdef public long long bytes_received

    cpdef request_replied(self, Request request, Py_ssize_t found)
    cpdef request_abandoned(self, Request request)

cimport cython
from gmproxy.client.sessions cimport Sessions
from gmproxy.routing.router cimport Router


cdef class PoolContext:
    cdef readonly object options
    cdef readonly Router router
    cdef readonly object worker_context
    cdef readonly object server_stats
    cdef readonly object key_listings
    cdef readonly Sessions clients
    cdef public long long connections
    cdef public long long rejected
    cdef public long long dropped
    cdef public long long auth_cmds
    cdef public long long auth_errors
    cdef public long long yields
    cdef public long long accept_failures
    cdef public long long held
    cdef public long long flushes

    @cython.locals(clients=Py_ssize_t)
    cpdef Py_ssize_t room(self) except -1
    cpdef bint hold(self, Py_ssize_t more, Py_ssize_t by_one) except -1
    cpdef answer_locally(self, request)

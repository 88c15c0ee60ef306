cimport cython
from gmproxy.backend.connection cimport BackendConnection
from gmproxy.backend.counters cimport BackendCounters
from gmproxy.backend.missed_writes cimport MissedWrites
from gmproxy.protocol.request cimport Request

cdef Py_ssize_t MAX_WAITING
cdef long long MAX_BACKLOG
cdef int FRESH, STALE_HERE, STALE_ELSEWHERE


cdef class Backend(MissedWrites):
    cdef readonly object server
    cdef readonly object options
    cdef readonly object observer
    cdef readonly bint backed
    cdef readonly int set_index
    cdef readonly bint is_backup
    cdef readonly str role
    cdef readonly list connections
    cdef readonly object health
    cdef readonly object health_checker
    cdef readonly object half_closed
    cdef public bint ask_backup_on_miss
    cdef readonly BackendCounters counters
    cdef public bint unsettled
    cdef object _ejections
    cdef long long _max_backlog
    cdef Py_ssize_t _connection_count
    cdef bint _has_failed
    cdef str _last_reason
    cdef bint _is_proxy
    cdef object _loop
    cdef long long _unreported
    cdef double _report_at

    @cython.locals(connection_index=Py_ssize_t, connection=BackendConnection, staleness=int)
    cpdef send(self, Request request)
    cdef _give_up(self, Request request, str reason)
    @cython.locals(asked=Py_ssize_t, counters=BackendCounters)
    cpdef request_replied(self, Request request, Py_ssize_t found)
    cpdef request_abandoned(self, Request request)

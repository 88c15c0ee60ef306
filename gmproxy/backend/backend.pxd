cimport cython
from gmproxy.backend.connection cimport BackendConnection, ConnectionOwner
from gmproxy.backend.counters cimport BackendCounters
from gmproxy.protocol.request cimport Request

cdef Py_ssize_t MAX_WAITING
cdef long long MAX_BACKLOG
cdef int BACKUP


cdef class Backend(ConnectionOwner):
    cdef readonly object server
    cdef readonly str label
    cdef readonly object options
    cdef readonly object router
    cdef readonly bint backed
    cdef readonly bint is_backup
    cdef readonly object log
    cdef readonly list connections
    cdef readonly object health
    cdef readonly object health_checker
    cdef readonly object invalidations
    cdef public bint behind
    cdef readonly object shared_invalidations
    cdef unsigned char[::1] _invalidation_states
    cdef Py_ssize_t _worker_number
    cdef readonly object guests
    cdef readonly dict fetches
    cdef readonly object half_closed
    cdef public bint ask_backup_on_miss
    cdef readonly BackendCounters counters
    cdef bint _full_of_guests
    cdef long long _max_backlog
    cdef Py_ssize_t _connection_count
    cdef bint _troubled
    cdef str _last_reason
    cdef bint _is_proxy
    cdef object _loop
    cdef long long _unreported
    cdef double _report_at

    @cython.locals(connection_index=Py_ssize_t, connection=BackendConnection)
    cpdef submit(self, Request request)
    @cython.locals(asked=Py_ssize_t, counters=BackendCounters)
    cpdef request_answered(self, Request request, Py_ssize_t found)
    cpdef request_abandoned(self, Request request)
    cpdef bint has_old(self) except -1
    cpdef bint may_be_old(self, bytes key, bint changes) except -1
    @cython.locals(number=Py_ssize_t)
    cdef bint _others_have_any(self) except -1

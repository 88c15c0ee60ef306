cdef class RouteCounters:
    cdef public long long fragments
    cdef public long long misses_for_errors
    cdef public long long backup_writes_lost
    cdef public long long backup_writes_differed
    cdef public long long conflicting_changes
    cdef public long long verify_compared
    cdef public long long verify_different

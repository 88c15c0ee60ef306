cdef class WorkerContext:
    cdef readonly Py_ssize_t number
    cdef readonly Py_ssize_t workers
    cdef readonly double started_at
    cdef public object client_counts
    cdef readonly object shared
    cdef readonly object dump_locks
    cdef public object call_workers
    cdef public object report
    cdef public Py_ssize_t max_clients
    cdef public Py_ssize_t clients
    cdef public bint accepting
    cdef public bint fills_enabled
    cdef public object replicas_off
    cdef readonly long long held_bytes
    cdef long long _published_bytes

    cpdef Py_ssize_t room(self) except? -1
    cpdef add_held_bytes(self, more)

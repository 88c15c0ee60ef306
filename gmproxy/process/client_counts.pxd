cimport cython


cdef class ClientCounts:
    cdef readonly Py_ssize_t workers
    cdef public dict rows
    cdef object _clients
    cdef object _held_bytes
    cdef object _accepted
    cdef object _paused

    @cython.locals(row=object, begin=Py_ssize_t, cell=Py_ssize_t, total=Py_ssize_t)
    cpdef Py_ssize_t clients_of_pool(self, str name) except -1
    @cython.locals(begin=Py_ssize_t, cell=Py_ssize_t, own=Py_ssize_t, total=Py_ssize_t)
    cpdef bint has_most_clients(self, Py_ssize_t worker) except -1
    cpdef set_clients(self, Py_ssize_t worker, str name, Py_ssize_t clients)
    cpdef held_bytes(self)

from gmproxy._c.message cimport Asker, Request


cdef class Refill(Asker):
    cdef readonly Request request
    cdef object primary
    cdef object backup_of
    cdef Py_ssize_t left
    cdef dict values

    cpdef answered(self, Request question)

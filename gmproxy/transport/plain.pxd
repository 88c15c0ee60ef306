cimport cython


@cython.final
cdef class PlainTransport:
    cdef Py_ssize_t recv_into(self, int fd, char *buffer, Py_ssize_t size) except -2
    cpdef Py_ssize_t send(self, int fd, bytes data, Py_ssize_t offset) except -1
    cpdef int accept(self, int fd) except -2
    cpdef close(self, int fd)

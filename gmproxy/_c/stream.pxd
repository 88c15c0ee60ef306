cimport cython


@cython.final
cdef class Stream:
    cdef public bytes data
    cdef public Py_ssize_t pos
    cdef public Py_ssize_t need
    cdef Py_ssize_t _searched
    cdef list _parts
    cdef Py_ssize_t _have

    cpdef feed(self, bytes chunk)
    cpdef Py_ssize_t size(self)
    cpdef forget(self)
    cpdef bint ready(self)
    cpdef Py_ssize_t line_end(self, Py_ssize_t start)
    cpdef Py_ssize_t word_end(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef Py_ssize_t find_nul(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef bytes cut(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef bint begins(self, Py_ssize_t start, bytes text)
    cpdef bint equals(self, Py_ssize_t start, Py_ssize_t stop, bytes text)
    cpdef long long number(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef bint all_digits(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef wait_for(self, Py_ssize_t start, Py_ssize_t need)
    cpdef Py_ssize_t drop(self, Py_ssize_t count)

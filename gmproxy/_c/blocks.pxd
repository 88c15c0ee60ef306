cimport cython


cdef struct Block:
    Py_ssize_t place
    Py_ssize_t end


@cython.final
cdef class Blocks:
    cdef Block *_blocks
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _count

    cpdef add(self, Py_ssize_t place, Py_ssize_t end)


cpdef bytes merge(list order, list replies, list blocks)

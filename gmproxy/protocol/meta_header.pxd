cimport cython

cdef bytes CRLF


@cython.final
cdef class MetaHeader:
    cdef readonly bytes code
    cdef readonly list flags
    cdef readonly Py_ssize_t data_start

    @cython.locals(header_end=Py_ssize_t, words=list)
    cpdef parse(self, bytes reply)
    @cython.locals(flag=bytes)
    cpdef object number(self, bytes letter, object default)


@cython.locals(digits=bytes)
cpdef object number_of(bytes word, object default=*)

cimport cython
from gmproxy._c.message cimport Reader, Request
from gmproxy._c.in_binary cimport Question
from gmproxy._c.packing cimport Header
from gmproxy._c.stream cimport Stream


cdef class BinaryLink(Reader):
    cdef object _asked
    cdef long long _number
    cdef bint _begun
    cdef Header _header
    cdef Py_ssize_t _skip
    cdef Py_ssize_t _skipped

    @cython.locals(question=Question, said=bytes)
    cpdef bytes encode(self, Request request)
    @cython.locals(stream=Stream, question=Question, header=Header, start=Py_ssize_t, place=Py_ssize_t, body=Py_ssize_t,
                   value=Py_ssize_t, after=Py_ssize_t, reply=bytes)
    cpdef bytes read(self, Request request)
    @cython.locals(reply=bytes)
    cdef bytes _take(self, Question question, Py_ssize_t place, int status, object cas, object flags, bytes value)

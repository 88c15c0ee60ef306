cimport cython
from gmproxy.protocol.request cimport Request
from gmproxy.protocol.key_list cimport KeyList


cdef class PendingReply:
    cdef readonly int opcode
    cdef readonly long long first
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t values_found

    cpdef bytes take(self, Py_ssize_t place, int status, object cas, object flags, bytes value)


cdef class Values(PendingReply):
    cdef Request _request
    cdef bint _tells_cas
    cdef Py_ssize_t _next
    cdef list _blocks
    cdef Py_ssize_t _kept
    cdef bytes _error

    @cython.locals(request=Request, opcode=int, said=list)
    cpdef bytes in_packets(self, bytes extras)
    @cython.locals(ends=bint)
    cpdef bytes take(self, Py_ssize_t place, int status, object cas, object flags, bytes value)
    @cython.locals(number=bytes, block=bytes, keys=KeyList)
    cdef _add(self, Py_ssize_t place, bytes key, object cas, object flags, bytes value)
    cdef bytes _whole(self)


cdef class Line(PendingReply):
    cpdef bytes take(self, Py_ssize_t place, int status, object cas, object flags, bytes value)


cdef class Meta(PendingReply):
    cdef bytes _name
    cdef bytes _word
    cdef list _flags
    cdef dict _arguments

    cpdef bytes take(self, Py_ssize_t place, int status, object cas, object flags, bytes value)
    @cython.locals(told=bytes)
    cdef bytes _hit(self, object cas, object flags, bytes value)
    @cython.locals(told=bytes, flag=bytes, letter=bytes)
    cdef bytes _told(self, bytes letters, object cas, object flags, Py_ssize_t size)


cdef class Unsupported(PendingReply):
    cdef bytes _line

    cpdef bytes take(self, Py_ssize_t place, int status, object cas, object flags, bytes value)


cpdef tuple ask(Request request, long long first)

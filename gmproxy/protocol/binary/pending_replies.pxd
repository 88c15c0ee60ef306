cimport cython
from gmproxy.protocol.request cimport Request
from gmproxy.protocol.key_list cimport KeyList


cdef class PendingReply:
    cdef readonly int opcode
    cdef readonly long long first
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t values_found

    cpdef bytes on_packet(self, Py_ssize_t index, int status, object cas, object flags, bytes value)


cdef class PendingValues(PendingReply):
    cdef Request _request
    cdef bint _returns_cas
    cdef Py_ssize_t _next
    cdef list _blocks
    cdef Py_ssize_t _size
    cdef bytes _error

    @cython.locals(is_last=bint)
    cpdef bytes on_packet(self, Py_ssize_t index, int status, object cas, object flags, bytes value)
    @cython.locals(number=bytes, block=bytes, keys=KeyList)
    cdef _add_value(self, Py_ssize_t index, bytes key, object cas, object flags, bytes value)
    cdef bytes _whole_reply(self)


cdef class PendingLine(PendingReply):
    cpdef bytes on_packet(self, Py_ssize_t index, int status, object cas, object flags, bytes value)


cdef class PendingMeta(PendingReply):
    cdef bytes _name
    cdef bytes _word
    cdef list _flags
    cdef dict _arguments

    cpdef bytes on_packet(self, Py_ssize_t index, int status, object cas, object flags, bytes value)
    @cython.locals(returned=bytes)
    cdef bytes _success(self, object cas, object flags, bytes value)
    @cython.locals(returned=bytes, flag=bytes, letter=bytes)
    cdef bytes _returned_flags(self, bytes letters, object cas, object flags, Py_ssize_t size)


cdef class PendingNoop(PendingReply):
    cdef bytes _line

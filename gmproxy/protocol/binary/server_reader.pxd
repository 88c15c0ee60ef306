cimport cython
from gmproxy.protocol.request cimport ReplyParser, Request
from gmproxy.protocol.binary.translate cimport PendingReply
from gmproxy.protocol.binary.codec cimport Header
from gmproxy.protocol.recv_buffer cimport RecvBuffer


cdef class BinaryReplyParser(ReplyParser):
    cdef object _asked
    cdef long long _number
    cdef bint _begun
    cdef Header _header
    cdef Py_ssize_t _skip
    cdef Py_ssize_t _skipped

    @cython.locals(question=PendingReply, said=bytes)
    cpdef bytes encode(self, Request request)
    @cython.locals(stream=RecvBuffer, question=PendingReply, header=Header, start=Py_ssize_t, place=Py_ssize_t, body=Py_ssize_t,
                   value=Py_ssize_t, after=Py_ssize_t, reply=bytes)
    cpdef bytes read(self, Request request)
    @cython.locals(reply=bytes)
    cdef bytes _take(self, PendingReply question, Py_ssize_t place, int status, object cas, object flags, bytes value)

cimport cython
from gmproxy.protocol.request cimport ReplyParser, Request
from gmproxy.protocol.binary.pending_replies cimport PendingReply
from gmproxy.protocol.binary.server_requests cimport encode_request
from gmproxy.protocol.binary.codec cimport PacketHeader
from gmproxy.protocol.recv_buffer cimport RecvBuffer


cdef class BinaryReplyParser(ReplyParser):
    cdef object _pending
    cdef long long _next_opaque
    cdef bint _reply_has_begun
    cdef PacketHeader _header
    cdef Py_ssize_t _skip
    cdef Py_ssize_t _skipped_index

    @cython.locals(pending=PendingReply, encoded=bytes)
    cpdef bytes encode(self, Request request)
    @cython.locals(stream=RecvBuffer, pending=PendingReply, header=PacketHeader, start=Py_ssize_t, index=Py_ssize_t, body_start=Py_ssize_t,
                   value_start=Py_ssize_t, after=Py_ssize_t, reply=bytes)
    cpdef bytes parse_reply(self, Request request)
    @cython.locals(reply=bytes)
    cdef bytes _on_packet(self, PendingReply pending, Py_ssize_t index, int status, object cas, object flags, bytes value)

cimport cython
from gmproxy.protocol.binary.server_reader cimport BinaryReplyParser
from gmproxy.protocol.request cimport ReplySink, ReplyParser, Request, RequestQueue, resume_all
from gmproxy.backend.interfaces cimport ConnectionOwner
from gmproxy.backend.latency cimport ReplyTimer
from gmproxy.transport.plain cimport PlainTransport

cdef PlainTransport PLAIN
cdef Py_ssize_t LONG


@cython.final
cdef class BackendConnection:
    cdef readonly ConnectionOwner backend
    cdef readonly Py_ssize_t connection_index
    cdef readonly str protocol
    cdef readonly RequestQueue waiting
    cdef readonly bint closed
    cdef object _loop
    cdef object _sock
    cdef int _fd
    cdef ReplyParser _reader
    cdef BinaryReplyParser _binary
    cdef list _out
    cdef long long _queued
    cdef long long _sent
    cdef bint _flush_due
    cdef bytes _unsent
    cdef Py_ssize_t _unsent_at
    cdef object _read_watcher
    cdef object _write_watcher
    cdef object _pause_timer
    cdef long long _replied
    cdef object _marks
    cdef long long _idle_mark
    cdef double _idle_since
    cdef ReplyTimer _timer
    cdef long long _received
    cdef long long _received_mark

    @cython.locals(data=bytes)
    cpdef submit(self, Request request)
    cpdef long long backlog(self) noexcept
    cpdef tuple queues(self)
    cpdef flush(self)
    cdef _flush(self)
    @cython.locals(request=Request)
    cpdef _fail_requests(self, RequestQueue waiting, str reason, long long sent, bint begun)
    cdef _abandon(self, Request request, str where)
    @cython.locals(out=list, data=bytes, end=Py_ssize_t)
    cdef bytes _take_out(self)
    @cython.locals(count=Py_ssize_t)
    cdef _send(self, bytes data, Py_ssize_t offset)
    @cython.locals(ready=list, count=Py_ssize_t)
    cpdef on_readable(self)
    cdef _pause_reading(self)
    cpdef _resume_reading(self)
    @cython.locals(reader=ReplyParser, request=Request, reply=bytes, backend=ConnectionOwner, slow=bint, waiting=RequestQueue)
    cdef _parse_replies(self, Py_ssize_t count, list ready)

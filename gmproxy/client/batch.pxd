cimport cython
from gmproxy.protocol.request cimport ReplySink, RequestParser, Request
from gmproxy.routing.ordering cimport BatchOrder
from gmproxy.routing.router cimport Router
from gmproxy.transport.plain cimport PlainTransport

cdef PlainTransport PLAIN
cdef int RUNNING, AWAITS_REPLIES, MAX_BATCH, BULK_BATCHES, LAST_CONNECTION
cdef Py_ssize_t BULK_REPLY, HELD_STEP


cdef class Batch(ReplySink):
    cdef readonly object service
    cdef readonly int fd
    cdef public Py_ssize_t connection_index
    cdef readonly long long bytes_written
    cdef Router _router
    cdef int _doing
    cdef RequestParser _parser
    cdef list _batch
    cdef Py_ssize_t _pending
    cdef bytes _out
    cdef Py_ssize_t _out_at
    cdef bint _quit
    cdef Request _blocked_request
    cdef Py_ssize_t _accounted_bytes
    cdef Py_ssize_t _reply_bytes
    cdef Py_ssize_t _max_batch
    cdef int _bulk_batches
    cdef BatchOrder _order
    cdef bint _from_proxy

    cpdef begin_batches(self, int fd, Py_ssize_t connection_index)
    cpdef bint is_reusable(self) except -1
    @cython.locals(batch=list, request=Request, connection_index=Py_ssize_t, routing=bint)
    cdef bint _read_batch(self) except -1
    cdef bint _must_wait(self, Request request) except -1
    cdef _dispatch(self, Request request)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)
    cdef _hold_reply(self, Request request)
    cdef bint _has_more(self) except -1
    @cython.locals(batch=list, request=Request, data=bytes, count=Py_ssize_t)
    cdef _render_replies(self)
    cdef _send_on(self)
    cdef _hold(self, Py_ssize_t count)
    @cython.locals(fits=bint)
    cdef bint _account(self, Py_ssize_t count) except -1

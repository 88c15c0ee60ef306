cimport cython
from gmproxy.protocol.request cimport ReplySink, RequestParser, Request
from gmproxy.routing.ordering cimport BatchOrder
from gmproxy.routing.router cimport Router
from gmproxy.transport.plain cimport PlainTransport

cdef PlainTransport PLAIN
cdef int REQUEST, UNKNOWN, TEXT, BINARY, MAX_BATCH, BULK_BATCHES, LAST_CONNECTION, RUNNING, AWAITS_BYTES, AWAITS_REPLIES
cdef Py_ssize_t BULK_REPLY
cdef Py_ssize_t HELD_STEP


cdef class Session(ReplySink):
    cdef readonly object service
    cdef readonly int fd
    cdef public Py_ssize_t connection_index
    cdef readonly long long bytes_read
    cdef readonly long long bytes_written
    cdef readonly int idle_rounds
    cdef readonly bint will_hibernate
    cdef readonly bint hibernating
    cdef Router _router
    cdef object _loop
    cdef object _wait
    cdef object _wake
    cdef object _left
    cdef object _watcher
    cdef bint _watching
    cdef int _doing
    cdef bint _readable
    cdef RequestParser _parser
    cdef int _protocol
    cdef list _batch
    cdef Py_ssize_t _pending
    cdef bytes _out
    cdef Py_ssize_t _out_at
    cdef bint _draining
    cdef bint _after_next_reply
    cdef bint _quit
    cdef Request _blocked_request
    cdef Py_ssize_t _accounted_bytes
    cdef Py_ssize_t _reply_bytes
    cdef Py_ssize_t _max_batch
    cdef int _bulk_batches
    cdef BatchOrder _order
    cdef bint _from_proxy

    cdef bint _is_drained(self, bint answered) except -1
    cpdef maybe_hibernate(self, int idle_rounds)
    cpdef tuple client_state(self)
    cdef _run_soon(self)
    cpdef start(self, left)
    cpdef _serve(self)
    @cython.locals(count=Py_ssize_t)
    cdef _run(self)
    cdef _stop_watching(self)
    cdef _begin(self)
    cdef RequestParser _new_parser(self, bint is_authenticated)
    @cython.locals(at_once=Py_ssize_t)
    cdef _answer_requests(self)
    cdef _yield(self)
    @cython.locals(batch=list, request=Request, connection_index=Py_ssize_t, routing=bint)
    cdef bint _read_batch(self) except -1
    cdef bint _must_wait(self, Request request) except -1
    cdef _dispatch(self, Request request)
    cpdef on_reply(self, Request request)
    cpdef on_internal_error(self, Request request)
    cdef _hold_reply(self, Request request)
    cpdef resume(self)
    cpdef give_up(self)
    cdef bint _is_last_batch(self) except -1
    cdef bint _send_from_here(self) except -1
    cdef _send_replies(self)
    @cython.locals(batch=list, request=Request, data=bytes, count=Py_ssize_t)
    cdef _render_replies(self)
    cdef _wait_for_bytes(self)
    cdef _watch(self)
    cpdef _on_readable(self)
    cdef _send_on(self)
    cdef _send_slowly(self)
    cdef _hold(self, Py_ssize_t count)
    @cython.locals(more=Py_ssize_t)
    cdef bint _account(self, Py_ssize_t count) except -1

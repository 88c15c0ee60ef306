cimport cython
from gmproxy.protocol.request cimport ReplySink, RequestParser, Request
from gmproxy.routing.router cimport Router

cdef int REQUEST, NOTHING_YET, TEXT, BINARY, MAX_BATCH, STAYS_LONG, LAST_CONNECTION, RUNNING, AWAITS_BYTES, AWAITS_REPLIES
cdef Py_ssize_t LONG_ANSWER
cdef Py_ssize_t HELD_STEP


cdef keys_of(Request request)


cdef class Session(ReplySink):
    cdef readonly object service
    cdef readonly int fd
    cdef public Py_ssize_t connection_index
    cdef readonly long long bytes_read
    cdef readonly long long bytes_written
    cdef readonly int silent
    cdef readonly bint dozes
    cdef readonly bint asleep
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
    cdef int _speaks
    cdef list _batch
    cdef Py_ssize_t _pending
    cdef bytes _out
    cdef Py_ssize_t _out_at
    cdef bint _leaving
    cdef bint _softly
    cdef bint _quit
    cdef Request _delayed
    cdef Py_ssize_t _holds
    cdef Py_ssize_t _arrived
    cdef Py_ssize_t _at_most
    cdef int _long
    cdef set _looked_at
    cdef Py_ssize_t _looked_through
    cdef bint _from_proxy

    cdef bint _may_leave(self, bint answered) except -1
    cpdef doze(self, int often_enough)
    cpdef tuple notes(self)
    cdef _look_once_more(self)
    cpdef start(self, left)
    cpdef _serve(self)
    @cython.locals(count=Py_ssize_t)
    cdef _run(self)
    cdef _stop_watching(self)
    cdef _begin(self)
    cdef RequestParser _new_parser(self, bint is_known)
    @cython.locals(at_once=Py_ssize_t)
    cdef _answer_requests(self)
    cdef _give_way(self)
    @cython.locals(batch=list, request=Request, connection_index=Py_ssize_t, routing=bint)
    cdef bint _read_batch(self) except -1
    cdef bint _must_wait(self, Request request) except -1
    @cython.locals(earlier=Request, batch=list, number=Py_ssize_t)
    cdef set _keys_looked_at(self)
    cdef _dispatch(self, Request request)
    cpdef on_reply(self, Request request)
    cpdef on_internal_error(self, Request request)
    cdef _hold_reply(self, Request request)
    cpdef resume(self)
    cpdef give_up(self)
    cdef bint _is_all(self) except -1
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

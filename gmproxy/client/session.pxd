cimport cython
from gmproxy.client.client_input cimport ClientInput

cdef int RUNNING, AWAITS_BYTES, AWAITS_REPLIES, PIECES_IN_LOOP


cdef class Session(ClientInput):
    cdef readonly bint hibernating
    cdef object _loop
    cdef object _watch
    cdef object _ignore
    cdef object _on_closed
    cdef object _wait
    cdef object _wake
    cdef bint _watching
    cdef bint _is_watched
    cdef Py_ssize_t _received
    cdef int _pieces
    cdef bint _draining
    cdef bint _after_next_reply

    cpdef begin(self, int fd, Py_ssize_t connection_index, tuple state, bint is_watched, bint hung_up)
    cpdef bint receive_first(self) except -1
    cdef bint _is_drained(self, bint replied) except -1
    cpdef maybe_hibernate(self, int idle_rounds)
    cdef _run_soon(self)
    cpdef look_again(self)
    @cython.locals(awaited=bint)
    cpdef on_readable(self, bint hung_up)
    cpdef run_in_loop(self, bint replied=*)
    @cython.locals(count=Py_ssize_t)
    cdef bint _continue_in_loop(self, bint replied) except -1
    cdef bint _serve_in_loop(self) except -1
    cdef _resume_in_loop(self)
    cdef _start_greenlet(self)
    cdef _end(self)
    cpdef _serve(self)
    @cython.locals(count=Py_ssize_t, replied=bint)
    cdef _run(self)
    cdef bint _is_finished(self, bint replied) except -1
    @cython.locals(at_once=Py_ssize_t)
    cdef _serve_requests(self)
    cdef _yield(self)
    cpdef resume(self)
    cpdef give_up(self)
    cdef bint _is_last_batch(self) except -1
    cdef bint _send_in_loop(self) except -1
    cdef _send_replies(self)
    cdef _wait_for_bytes(self)
    cdef _start_watching(self)
    @cython.locals(awaited=bint)
    cpdef on_watched(self)
    cdef _be_watched(self)
    cdef _send_slowly(self)

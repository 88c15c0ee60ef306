cimport cython
from gmproxy.client.idle cimport IdleClients
from gmproxy.client.poller cimport ClientPoller
from gmproxy.client.session cimport Session
from gmproxy.transport.plain cimport PlainTransport

cdef PlainTransport PLAIN
cdef Py_ssize_t MAX_UNUSED_SESSIONS


@cython.final
cdef class Sessions:
    cdef object _service
    cdef readonly set sessions
    cdef readonly long long bytes_read
    cdef readonly long long bytes_written
    cdef object _worker_context
    cdef bint _is_verbose
    cdef ClientPoller _poller
    cdef object _loop
    cdef Py_ssize_t _idle_count
    cdef dict _idle
    cdef IdleClients _new
    cdef list _unused
    cdef Py_ssize_t _counted
    cdef bint _is_count_due
    cdef object _when_waiting
    cdef object _when_greenlet
    cdef object _when_closed
    cdef list _round
    cdef double _next_round
    cdef Py_ssize_t _busy
    cdef Py_ssize_t _connection_index_of_new
    cdef Py_ssize_t _hibernated_since_trim

    @cython.locals(accepted=Py_ssize_t, fd=int)
    cpdef Py_ssize_t accept(self, int listening, Py_ssize_t most) except -1
    cpdef add(self, int fd)
    @cython.locals(session=Session)
    cdef _admit(self, int fd)
    @cython.locals(session=Session)
    cpdef wake(self, int fd, bint hung_up, IdleClients idle, bint is_draining=*)
    cdef Session _next_session(self)
    cpdef on_waiting(self, int fd, Session session)
    cpdef on_greenlet(self, int fd)
    @cython.locals(fd=int)
    cpdef on_closed(self, Session session)
    cdef _close(self, int fd)
    cdef IdleClients _idle_like(self, tuple state, bint after_next_reply)
    @cython.locals(count=Py_ssize_t)
    cdef _count_clients(self)
    cpdef publish_count(self)

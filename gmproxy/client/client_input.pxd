cimport cython
from gmproxy.client.batch cimport Batch

cdef int REQUEST, UNKNOWN, TEXT, BINARY


cdef class ClientInput(Batch):
    cdef readonly long long bytes_read
    cdef readonly int idle_rounds
    cdef readonly bint will_hibernate
    cdef object _users
    cdef int _protocol
    cdef bint _readable
    cdef bint _hung_up
    cdef object _watcher

    @cython.locals(former=int, is_authenticated=bint)
    cpdef begin_input(self, int fd, Py_ssize_t connection_index, tuple state, bint hung_up)
    cpdef tuple client_state(self)
    @cython.locals(count=Py_ssize_t)
    cdef Py_ssize_t _receive(self) except -2
    cdef _detect_protocol(self)
    cdef _hold_unread(self)

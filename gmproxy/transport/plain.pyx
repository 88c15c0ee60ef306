# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled build of gmproxy/transport/plain.py, which documents it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    struct sockaddr:
        pass
    int accept4(int fd, sockaddr *address, void *length, int flags)
    enum:
        MSG_NOSIGNAL
        SOCK_NONBLOCK
        SOCK_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)

cdef enum:
    MOST_SENT = 1048576  # SEND_AT_ONCE

NOTHING = -1
SEND_AT_ONCE = MOST_SENT


cdef class PlainTransport:

    cdef Py_ssize_t recv_into(self, int fd, char *buffer, Py_ssize_t size) except -2:
        cdef ssize_t count
        while True:
            count = c_recv(fd, buffer, size, 0)
            if count >= 0:
                return count
            if errno == EAGAIN:
                return -1  # NOTHING
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)

    cpdef Py_ssize_t send(self, int fd, bytes data, Py_ssize_t offset) except -1:
        cdef Py_ssize_t size = min(PyBytes_GET_SIZE(data) - offset, <Py_ssize_t>MOST_SENT)
        cdef ssize_t count
        while True:
            count = c_send(fd, PyBytes_AS_STRING(data) + offset, size, MSG_NOSIGNAL)
            if count >= 0:
                return count
            if errno == EAGAIN:
                return 0
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)

    cpdef int accept(self, int fd) except -2:
        cdef int accepted
        while True:
            accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if accepted >= 0:
                return accepted
            if errno == EAGAIN:
                return -1  # NOTHING
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)

    cpdef close(self, int fd):
        if c_close(fd) != 0:
            PyErr_SetFromErrno(OSError)


PLAIN = PlainTransport()

# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/sysio.py: see there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno

cdef extern from "<sys/types.h>" nogil:
    ctypedef long ssize_t

cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    enum:
        MSG_NOSIGNAL


def send(int fd, bytes data, Py_ssize_t offset):
    cdef ssize_t count
    while True:
        count = c_send(fd, PyBytes_AS_STRING(data) + offset, PyBytes_GET_SIZE(data) - offset, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)

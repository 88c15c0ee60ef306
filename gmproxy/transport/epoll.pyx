# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled build of gmproxy/transport/epoll.py, which documents it."""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

cdef extern from "<sys/epoll.h>" nogil:
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD, EPOLL_CTL_MOD
    unsigned int EPOLLIN, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)

MAX_EVENTS = MOST_EVENTS


cdef class Epoll:

    def __cinit__(self):
        self._fd = -1

    def __init__(self):
        self.count = 0
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        self._close()

    cpdef int fileno(self) noexcept:
        return self._fd

    cpdef watch(self, int fd):
        self._control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET)

    cpdef ignore(self, int fd):
        self._control(EPOLL_CTL_MOD, fd, EPOLLET)

    cpdef watch_again(self, int fd):
        self._control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET)

    cdef _control(self, int operation, int fd, unsigned int events):
        cdef epoll_event event
        event.events = events
        event.data.fd = fd
        if epoll_ctl(self._fd, operation, fd, &event) != 0:
            PyErr_SetFromErrno(OSError)

    cpdef wait(self):
        self.count = 0
        cdef int count = epoll_wait(self._fd, self._events, MOST_EVENTS, 0)
        if count >= 0:
            self.count = count
        elif errno != EINTR:
            PyErr_SetFromErrno(OSError)

    cpdef int fd_at(self, int index) noexcept:
        return self._events[index].data.fd

    cpdef bint hung_up_at(self, int index) noexcept:
        return self._events[index].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) != 0

    cpdef close(self):
        self._close()

    cdef _close(self):
        if self._fd >= 0:
            c_close(self._fd)
            self._fd = -1

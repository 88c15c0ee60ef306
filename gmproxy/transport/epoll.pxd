cimport cython

cdef enum:
    MOST_EVENTS = 64  # MAX_EVENTS

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data data


@cython.final
cdef class Epoll:
    cdef readonly int count
    cdef int _fd
    cdef epoll_event _events[MOST_EVENTS]

    cpdef int fileno(self) noexcept
    cpdef watch(self, int fd)
    cpdef ignore(self, int fd)
    cpdef watch_again(self, int fd)
    cdef _control(self, int operation, int fd, unsigned int events)
    cpdef wait(self)
    cpdef int fd_at(self, int index) noexcept
    cpdef bint hung_up_at(self, int index) noexcept
    cpdef close(self)
    cdef _close(self)

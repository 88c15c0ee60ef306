cimport cython
from gmproxy.client.idle cimport IdleClients
from gmproxy.client.session cimport Session
from gmproxy.transport.epoll cimport Epoll


@cython.final
cdef class ClientPoller:
    cdef list _handlers
    cdef Epoll _epoll
    cdef object _watcher

    cpdef watch(self, int fd, handler)
    cpdef ignore(self, int fd)
    cpdef watch_again(self, int fd, handler)
    cpdef replace(self, int fd, handler)
    cpdef forget(self, int fd)
    @cython.locals(epoll=Epoll, index=int)
    cpdef on_ready(self)
    @cython.locals(session=Session, idle=IdleClients)
    cdef _call_handler(self, int fd, bint hung_up)

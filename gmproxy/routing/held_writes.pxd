cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.request cimport Request, Route
from gmproxy.shared.changes cimport ChangeNotes


cdef class AwaitFills(Route):
    cdef readonly Backend primary
    cdef readonly Route next_route
    cdef readonly object held
    cdef readonly object release

    @cython.locals(notes=ChangeNotes)
    cpdef send(self, Request request)

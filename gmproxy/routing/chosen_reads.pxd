cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.shard cimport Shard
from gmproxy.shared.changes cimport ChangeNotes

cdef unsigned long long _TURNS_OF_WARMING


cdef class ChosenReads(Route):
    cdef readonly Route main
    cdef readonly list sets
    cdef readonly list chains
    cdef ChangeNotes _notes
    cdef unsigned long long _turns

    @cython.locals(command=Command, chains=list, count=Py_ssize_t, shard=Shard, may_be_warming=bint)
    cpdef send(self, Request request)
    @cython.locals(notes=ChangeNotes)
    cdef bint _is_changing(self, Request request) except -1
    @cython.locals(server=Backend)
    cdef bint _can_answer(self, Shard shard, Request request, bint may_be_warming) except -1


cdef bint _can_serve(Backend server, bint may_be_warming) except -1

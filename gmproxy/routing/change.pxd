cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.step cimport Step
from gmproxy.shared.changes cimport ChangeNotes, Note

cdef int COPY


cdef class Change(Step):
    cdef readonly Backend primary
    cdef readonly list copies
    cdef readonly bytes key
    cdef readonly RouteCounters counters
    cdef readonly Py_ssize_t parts
    cdef ChangeNotes _notes
    cdef Note _note
    cdef bint _is_noted
    cdef bint _deletes

    cpdef begin(self, Backend primary, list copies, bytes key, int word, RouteCounters counters)
    cpdef bint is_contested(self) except -1
    cpdef bint primary_has_changed(self) except -1
    cpdef add_part(self)
    cpdef end_part(self)
    cpdef give_up(self)
    @cython.locals(note=Note)
    cpdef end(self)
    @cython.locals(copy=Request)
    cpdef Request new_copy(self, Command command, bytes line, ReplySink sink)
    @cython.locals(server=Backend)
    cpdef send_copies(self, Command command, bytes line)
    cpdef send_part(self, Backend server, Request part)
    @cython.locals(server=Backend)
    cpdef delete_copies(self)
    @cython.locals(command=Command, line=bytes, other=Backend)
    cpdef delete_copy(self, Backend server)
    @cython.locals(command=Command, line=bytes, request=Request)
    cpdef delete_on_primary(self)
    cpdef invalidate(self)
    cpdef on_reply(self, Request copy)
    cpdef on_failure(self, Request copy)
    cpdef on_internal_error(self, Request copy)


cdef class PartOfChanges(Step):
    cdef readonly list changes

    @cython.locals(change=Change)
    cpdef begin(self, Request request, list changes)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)
    @cython.locals(change=Change)
    cdef _end_parts(self)


cdef class AnswerOfBackup(Step):
    cdef readonly Change change
    cdef readonly bint is_enough

    cpdef begin(self, Request request, Change change, bint is_enough)
    cpdef on_reply(self, Request request)


cdef class AnswerOfActing(AnswerOfBackup):
    cpdef on_reply(self, Request request)


cdef class NotedFlush(Step):
    cdef ChangeNotes _notes

    cpdef begin(self, Request request, ChangeNotes notes)
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)
    @cython.locals(notes=ChangeNotes)
    cdef _end(self)

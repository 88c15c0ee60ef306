cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.change cimport AnswerOfActing, AnswerOfBackup, Change, PartOfChanges
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.replicated_write cimport ConditionalWrite, ReplicatedWrite, UndecidedWrites, WriteWithoutCopy
from gmproxy.routing.sets cimport Copies

cdef int PRIMARY_WORD, BACKUP_WORD, COPIES_WORD, UNNOTED


cdef class Replicate(Route):
    cdef readonly Backend server
    cdef readonly Route primary_route
    cdef readonly Copies copies
    cdef readonly Route next_route
    cdef readonly bint next_copies
    cdef readonly UndecidedWrites undecided
    cdef readonly object rules
    cdef readonly RouteCounters counters
    cdef bint _overlaps
    cdef Py_ssize_t _acks
    cdef bint _waits_for_all
    cdef bint _deletes_marked

    @cython.locals(server=Backend, copies=list, by_copy=bint, marks=bint, needs_one=bint, change=ReplicatedWrite)
    cpdef send(self, Request request)
    cdef int _word_of(self, Request request, bint by_copy) except? -1
    @cython.locals(change=Change)
    cdef Change _begin_change(self, list copies, bytes key, int word)
    @cython.locals(change=ReplicatedWrite)
    cdef ReplicatedWrite _begin_write(self, list copies, bytes key, int word)
    @cython.locals(part=PartOfChanges, write=ConditionalWrite)
    cdef _send_to_all(self, Request request, ReplicatedWrite change, bint marks)
    cdef _watch_main_set(self, Request request, ReplicatedWrite change)
    @cython.locals(server=Backend)
    cdef _send_to_copy(self, Request request, Change change)
    @cython.locals(command=Command, line=bytes, change=Change, copies=list)
    cdef _send_touch(self, Request request)
    cdef bint _one_is_enough(self) except -1
    @cython.locals(backup=Backend)
    cdef bint _is_primary(self, list copies) except -1

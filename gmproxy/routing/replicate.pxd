cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplySink, Request, Route
from gmproxy.routing.change cimport AnswerOfBackup, Change, PartOfChanges
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.replicated_write cimport ConditionalWrite, ReplicatedWrite, UndecidedWrites, WriteWithoutCopy
from gmproxy.routing.shard cimport Shard

cdef int PRIMARY_WORD, BACKUP_WORD, UNNOTED


cdef class Replicate(Route):
    cdef readonly Backend server
    cdef readonly Route primary_route
    cdef readonly Shard backups
    cdef readonly Route backup_as_primary
    cdef readonly UndecidedWrites undecided
    cdef readonly bint waits_for_copy
    cdef readonly bint several_proxies
    cdef readonly RouteCounters counters
    cdef bint _overlaps

    @cython.locals(server=Backend, backup=Backend, by_backup=bint, change=ReplicatedWrite)
    cpdef send(self, Request request)
    cdef int _word_of(self, Request request, bint by_backup) except? -1
    @cython.locals(change=Change)
    cdef Change _begin_change(self, Backend backup, bytes key, int word)
    @cython.locals(change=ReplicatedWrite)
    cdef ReplicatedWrite _begin_write(self, Backend backup, bytes key, int word)
    @cython.locals(part=PartOfChanges, write=ConditionalWrite)
    cdef _send_to_both(self, Request request, ReplicatedWrite change)
    @cython.locals(server=Backend)
    cdef _send_to_backup(self, Request request, Change change)
    @cython.locals(command=Command, line=bytes, change=Change, backup=Backend)
    cdef _send_touch(self, Request request)
    cdef bint _is_primary(self, Backend backup) except -1

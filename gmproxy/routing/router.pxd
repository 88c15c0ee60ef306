cimport cython
from gmproxy.backend.backend cimport Backend
from gmproxy.placement.locators cimport Locator
from gmproxy.protocol.request cimport ReplySink, Request, Route, new_request
from gmproxy.routing.counters cimport RouteCounters
from gmproxy.routing.shard cimport Shard
from gmproxy.shared.changes cimport ChangeNotes

cdef int PRIMARY, BACKUP


cdef class Router(Route):
    cdef readonly list backends
    cdef readonly list sets
    cdef readonly object gutter
    cdef readonly list backups
    cdef readonly Locator locator
    cdef readonly RouteCounters counters
    cdef readonly object undecided
    cdef readonly set held
    cdef readonly bint keeps_order
    cdef public object sampler
    cdef readonly object options
    cdef object _builder
    cdef object _place
    cdef list _copies
    cdef Route _entry
    cdef Shard _after_fill
    cdef Shard _own
    cdef list _fills
    cdef Py_ssize_t _to_skip
    cdef ChangeNotes _notes
    cdef object _journal
    cdef object _followers
    cdef set _ejected
    cdef unsigned long long[::1] _stamp
    cdef unsigned long long _followed

    cpdef send(self, Request request)
    cpdef send_to_own(self, Request request)
    cpdef follow_ejections(self)
    cpdef write_journal(self)
    cdef _sample(self, Request request)
    cpdef primary_of(self, bytes key)
    cpdef bytes reply_to_failure(self, Request request)
    cpdef abandon(self, Request request)

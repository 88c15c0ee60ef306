cimport cython
from gmproxy._c.link cimport Link, LinkKeeper
from gmproxy._c.message cimport Request


cdef class Backend(LinkKeeper):
    cdef readonly object server
    cdef readonly str label
    cdef readonly object options
    cdef readonly object router
    cdef readonly bint backed
    cdef readonly object log
    cdef readonly list links
    cdef readonly object health
    cdef public bint ask_backup_on_miss
    cdef readonly object identity
    cdef readonly double warming_until
    cdef readonly long long requests
    cdef readonly long long keys_asked
    cdef readonly long long values_found
    cdef readonly long long failures
    cdef public long long refills
    cdef Py_ssize_t _lanes
    cdef bint _troubled
    cdef object _inspecting
    cdef double _identify_at
    cdef object _loop

    @cython.locals(lane=Py_ssize_t, link=Link)
    cpdef submit(self, Request request)
    @cython.locals(asked=Py_ssize_t)
    cpdef answered(self, Request request, Py_ssize_t found)

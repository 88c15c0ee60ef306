cimport cython
from gmproxy._c.retrieval cimport Blocks
from gmproxy._c.stream cimport Stream


@cython.final
cdef class Verb:
    cdef readonly bytes name
    cdef readonly Py_ssize_t number
    cdef readonly str kind
    cdef readonly Py_ssize_t least
    cdef readonly Py_ssize_t most
    cdef readonly bint stores
    cdef readonly bint values
    cdef readonly bint meta
    cdef readonly bint reads
    cdef readonly bint changes
    cdef readonly bint depends
    cdef readonly bint blind
    cdef readonly bint by_outcome
    cdef readonly bint repeatable
    cdef readonly frozenset answers
    cdef readonly tuple done
    cdef readonly bytes miss


cdef class Asker:
    cpdef answered(self, Request request)


cdef class Edge:
    cpdef bytes render(self, Request request)


cdef class Parser:
    cdef public Stream stream
    cdef public Py_ssize_t max_item_size
    cdef public object users

    cpdef Request next_request(self)


cdef class Reader:
    cdef public Stream stream
    cdef public Py_ssize_t found
    cdef public bint out_of_step

    cpdef bint is_at_border(self)
    cpdef bytes read(self, Request request)


@cython.final
cdef class Request:
    cdef public Verb verb
    cdef public bytes key
    cdef public object keys
    cdef public bytes line
    cdef public bint quiet
    cdef public Edge edge
    cdef public bytes reply
    cdef public Blocks blocks
    cdef public Asker owner
    cdef public Py_ssize_t lane
    cdef public int stage
    cdef public bint retried
    cdef public Request twin
    cdef public str failure
    cdef public long long start_mark


@cython.locals(request=Request)
cpdef Request local_reply(bytes reply)

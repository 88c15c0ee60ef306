cimport cython
from gmproxy.protocol.recv_buffer cimport Stream


@cython.final
cdef class Verb:
    cdef readonly bytes name
    cdef readonly bytes prefix
    cdef readonly Py_ssize_t number
    cdef readonly str kind
    cdef readonly Py_ssize_t least
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

    @cython.locals(request=Request)
    cpdef Request request(self, bytes key, bytes line)


cdef class Asker:
    cpdef answered(self, Request request)
    cpdef abandoned(self, Request request)
    cpdef resume(self)


cdef class Edge:
    cpdef bytes render(self, Request request)


cdef class Parser:
    cdef public Stream stream
    cdef public Py_ssize_t max_item_size
    cdef public object users

    cpdef Request next_request(self)
    cpdef bint is_known(self) except -1
    cpdef bint is_at_border(self) except -1


cdef class Reader:
    cdef public Stream stream
    cdef public Py_ssize_t found
    cdef public bint out_of_step

    cpdef bint is_at_border(self) except -1
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
    cdef public bint mapped
    cdef public Asker owner
    cdef public Py_ssize_t lane
    cdef public int stage
    cdef public bint retried
    cdef public Request twin
    cdef public str failure
    cdef public long long start_mark

    cpdef begin(self, Verb verb, bytes key, bytes line)
    @cython.locals(owner=Asker)
    cpdef complete(self)
    @cython.locals(owner=Asker)
    cpdef abandon(self)


@cython.final
cdef class RequestQueue:
    cdef readonly Py_ssize_t count
    cdef list _ring
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _at

    cpdef Request first(self)
    cpdef append(self, Request request)
    @cython.locals(request=Request)
    cpdef Request popleft(self)
    cdef _grow(self)


@cython.locals(request=Request)
cpdef Request local_reply(bytes reply)

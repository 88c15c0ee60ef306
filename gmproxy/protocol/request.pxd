cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.recv_buffer cimport RecvBuffer


cdef class Route:
    cpdef send(self, Request request)


cdef class ReplySink:
    cpdef on_reply(self, Request request)
    cpdef on_failure(self, Request request)
    cpdef on_internal_error(self, Request request)
    cpdef resume(self)
    cpdef give_up(self)


cdef class ReplyRenderer:
    cpdef bytes render(self, Request request)


cdef class RequestParser:
    cdef public RecvBuffer stream
    cdef public Py_ssize_t max_item_size
    cdef public object users

    cpdef Request next_request(self)
    cpdef bint is_authenticated(self) except -1
    cpdef bint is_between_messages(self) except -1


cdef class ReplyParser:
    cdef public RecvBuffer stream
    cdef public Py_ssize_t values_found
    cdef public bint out_of_step

    cpdef bint is_between_messages(self) except -1
    cpdef bytes parse_reply(self, Request request)


@cython.final
cdef class Request:
    cdef public Command command
    cdef public bytes key
    cdef public object keys
    cdef public bytes line
    cdef public bint quiet
    cdef public ReplyRenderer renderer
    cdef public bytes reply
    cdef public Py_ssize_t values_found
    cdef public bint has_value_offsets
    cdef public ReplySink sink
    cdef public Py_ssize_t connection_index
    cdef public int role
    cdef public bint retried
    cdef public str error
    cdef public str failed_server
    cdef public long long sent_at_byte
    cdef public bint started
    cdef public bint made
    cdef public int result

    cpdef begin(self, Command command, bytes key, bytes line)
    @cython.locals(sink=ReplySink)
    cpdef complete(self)
    @cython.locals(sink=ReplySink)
    cpdef fail(self, str reason, str server)
    @cython.locals(sink=ReplySink)
    cpdef abandon(self)
    @cython.locals(sink=ReplySink)
    cdef ReplySink _take_sink(self)
    cpdef all_keys(self)


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
@cython.locals(request=Request)
cpdef Request new_request(Command command, bytes key, bytes line)
@cython.locals(session=ReplySink)
cpdef resume_all(list ready)

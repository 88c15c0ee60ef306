cimport cython
from gmproxy.protocol.binary.client_replies cimport PacketRenderer, Operation, new_renderer
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport Request, RequestParser, new_request
from gmproxy.protocol.binary.codec cimport PacketHeader
from gmproxy.protocol.recv_buffer cimport RecvBuffer

cdef bytes CRLF
cdef Command WRONG_PASSWORD
cdef dict OPERATIONS
cdef Operation UNKNOWN
cdef Command GETS
cdef int REQUEST
cdef Py_ssize_t HEADER_SIZE, MAX_KEY


cdef class BinaryParser(RequestParser):
    cdef bint _is_authenticated
    cdef bint awaits_step
    cdef Py_ssize_t skip
    cdef Request reply_after_skip
    cdef PacketHeader _header

    cpdef bint is_authenticated(self) except -1
    cpdef bint is_between_messages(self) except -1
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, header=PacketHeader, key_length=Py_ssize_t, extras_length=Py_ssize_t,
                   body_length=Py_ssize_t, operation=Operation, renderer=PacketRenderer, value_length=Py_ssize_t, key_start=Py_ssize_t,
                   after=Py_ssize_t, key=bytes, extras=bytes)
    cpdef Request next_request(self)
    cdef Request _refuse_body(self, PacketRenderer renderer, int status, Py_ssize_t length)
    @cython.locals(operation=Operation, request=Request)
    cdef Request _refuse_large(self, PacketRenderer renderer, bytes key, Py_ssize_t length)
    cdef Request _skip_refused_body(self)
    @cython.locals(renderers=list, keys=list, request=Request)
    cdef Request _get_text(self, PacketRenderer renderer, bytes key)
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, header=PacketHeader, operation=Operation, after=Py_ssize_t)
    cdef bint _add_quiet_get(self, list renderers, list keys) except -1


@cython.locals(request=Request)
cdef Request _command_request(PacketRenderer renderer, bytes line, list words)
@cython.locals(word=bytes, flag=bytes, line=bytes, request=Request)
cdef Request _meta_request(Command command, PacketRenderer renderer, bytes name, bytes key, bytes length, bytes flags, bytes value=*)

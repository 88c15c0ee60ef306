cimport cython
from gmproxy.protocol.binary.client_replies cimport Answer, Operation
from gmproxy.protocol.request cimport RequestParser, Request, Command
from gmproxy.protocol.binary.codec cimport Header
from gmproxy.protocol.recv_buffer cimport RecvBuffer

cdef bytes CRLF
cdef Command WRONG_PASSWORD
cdef dict OPERATIONS
cdef Operation UNKNOWN
cdef Command GETS
cdef int REQUEST
cdef Py_ssize_t HEADER_SIZE, MAX_KEY


cdef class BinaryParser(RequestParser):
    cdef bint _is_known
    cdef bint awaits_step
    cdef Py_ssize_t skip
    cdef Request after_skip
    cdef Header _header

    cpdef bint is_known(self) except -1
    cpdef bint is_at_border(self) except -1
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, header=Header, key_length=Py_ssize_t, extras_length=Py_ssize_t,
                   body_length=Py_ssize_t, operation=Operation, answer=Answer, rest=Py_ssize_t, key_start=Py_ssize_t,
                   after=Py_ssize_t, key=bytes, extras=bytes)
    cpdef Request next_request(self)
    cdef Request _refuse_body(self, Answer answer, int status, Py_ssize_t length)
    @cython.locals(operation=Operation, request=Request)
    cdef Request _refuse_large(self, Answer answer, bytes key, Py_ssize_t length)
    cdef Request _skip_refused_body(self)
    @cython.locals(answers=list, keys=list, request=Request)
    cdef Request _gets(self, Answer answer, bytes key)
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, header=Header, operation=Operation, after=Py_ssize_t)
    cdef bint _take_get(self, list answers, list keys) except -1


@cython.locals(request=Request)
cdef Request _command(Answer answer, bytes line, list words)
@cython.locals(word=bytes, flag=bytes, line=bytes, request=Request)
cdef Request _ask(Command command, Answer answer, bytes name, bytes key, bytes length, bytes flags, bytes value=*)

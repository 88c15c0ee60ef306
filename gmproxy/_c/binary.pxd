cimport cython
from gmproxy._c.stream cimport Stream
from gmproxy._c.packing cimport Header, Packer
from gmproxy._c.message cimport Edge, Parser, Request, Verb

cdef bytes VALUE, END, CRLF
cdef dict OPERATIONS
cdef Packer PACKER
cdef Verb GETS
cdef int REQUEST, RESPONSE, OK, NOT_FOUND
cdef Py_ssize_t HEADER_SIZE
cdef Py_ssize_t MAX_KEY


@cython.final
cdef class Operation:
    cdef readonly str kind
    cdef readonly Verb verb
    cdef readonly bytes mode
    cdef readonly tuple extras
    cdef readonly object keyed
    cdef readonly bint valued
    cdef readonly bint reads
    cdef readonly bint tells_key
    cdef readonly int not_stored
    cdef readonly bint quiet


cdef class Answer(Edge):
    cdef readonly Operation operation
    cdef readonly int opcode
    cdef readonly unsigned int opaque

    cdef begin(self, Operation operation, int opcode, unsigned int opaque)
    @cython.locals(reply=bytes, kind=str)
    cpdef bytes render(self, Request request)
    cpdef bytes of_value(self, bytes reply, Py_ssize_t start, Py_ssize_t end, bytes key)
    @cython.locals(code=bytes, status=int)
    cpdef bytes of_line(self, bytes reply, bytes key)
    @cython.locals(operation=Operation, header_end=Py_ssize_t, word=bytes, value=bytes)
    cdef bytes _of_meta(self, bytes reply, bytes key)
    cpdef bytes miss(self, bytes key)
    cdef bytes _of_error(self, bytes line)
    cdef bytes _stats(self, bytes reply)
    cpdef bytes refusal(self, int status)
    cpdef bytes packet(self, int status=*, object cas=*, bytes extras=*, bytes key=*, bytes value=*)


@cython.locals(answer=Answer)
cdef Answer new_answer(Operation operation, int opcode, unsigned int opaque)


cdef class AnswersInOrder(Edge):
    cdef readonly list answers

    @cython.locals(reply=bytes, told=list, pos=Py_ssize_t, answer=Answer, key=bytes, key_end=Py_ssize_t, header_end=Py_ssize_t,
                   length=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes render(self, Request request)


cdef class BinaryParser(Parser):
    cdef bint is_known
    cdef bint awaits_step
    cdef Py_ssize_t skip
    cdef Request after_skip
    cdef Header _header

    @cython.locals(stream=Stream, start=Py_ssize_t, header=Header, key_length=Py_ssize_t, extras_length=Py_ssize_t,
                   body_length=Py_ssize_t, operation=Operation, answer=Answer, rest=Py_ssize_t, key_start=Py_ssize_t,
                   after=Py_ssize_t, key=bytes, extras=bytes)
    cpdef Request next_request(self)
    cdef Request _refuse_body(self, Answer answer, int status, Py_ssize_t length)
    @cython.locals(operation=Operation, request=Request)
    cdef Request _refuse_large(self, Answer answer, bytes key, Py_ssize_t length)
    cdef Request _skip_refused_body(self)
    @cython.locals(answers=list, keys=list, request=Request)
    cdef Request _gets(self, Answer answer, bytes key)
    @cython.locals(stream=Stream, start=Py_ssize_t, header=Header, operation=Operation, after=Py_ssize_t)
    cdef bint _take_get(self, list answers, list keys) except -1


@cython.locals(request=Request)
cdef Request _command(Answer answer, bytes line, list words)
@cython.locals(word=bytes, flag=bytes, line=bytes, request=Request)
cdef Request _ask(Verb verb, Answer answer, bytes name, bytes key, bytes length, bytes flags, bytes value=*)

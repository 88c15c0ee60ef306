cimport cython
from gmproxy.protocol.request cimport ReplyRenderer, Request, Command
from gmproxy.protocol.binary.codec cimport Packer

cdef bytes VALUE, END, CRLF
cdef Packer PACKER
cdef int RESPONSE, OK, NOT_FOUND


@cython.final
cdef class Operation:
    cdef readonly str kind
    cdef readonly Command command
    cdef readonly bytes mode
    cdef readonly tuple extras
    cdef readonly object keyed
    cdef readonly bint valued
    cdef readonly bint reads
    cdef readonly bint tells_key
    cdef readonly int not_stored
    cdef readonly bint quiet

    @cython.locals(answer=Answer)
    cpdef answer(self, int opcode, unsigned int opaque)


cdef class Answer(ReplyRenderer):
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


cdef class AnswersInOrder(ReplyRenderer):
    cdef readonly list answers

    @cython.locals(reply=bytes, told=list, pos=Py_ssize_t, answer=Answer, key=bytes, key_end=Py_ssize_t, header_end=Py_ssize_t,
                   length=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes render(self, Request request)

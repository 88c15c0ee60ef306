cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplyRenderer, Request, new_request


cpdef bint is_text(bytes key) except -1
cpdef bytes encoded(bytes key)
@cython.locals(letters=bytes, padding=Py_ssize_t, end=Py_ssize_t, missing=Py_ssize_t)
cpdef bytes decoded(bytes word)


cdef class MetaReplyRenderer(ReplyRenderer):
    cdef tuple nominal
    cdef bytes tail

    @cython.locals(reply=bytes)
    cpdef bytes render(self, Request request)


@cython.final
cdef class MetaCommand:
    cdef readonly bytes name
    cdef readonly bytes word
    cdef readonly bytes key
    cdef readonly list kept
    cdef readonly bytes error
    cdef readonly bytes mode
    cdef readonly bint quiet
    cdef bint checks
    cdef bint touches
    cdef bint wins
    cdef bint opaque_too_long
    cdef readonly bint echoes
    cdef readonly bint known
    cdef readonly bint rewritten
    cdef readonly bint malformed

    @cython.locals(seen=set, flag=bytes, letter=bytes)
    cdef _read(self, list flags)
    cdef bytes _read_number(self, bytes letter, bytes flag)
    cdef _judge(self)
    cpdef Command command(self, Command command)
    cpdef MetaReplyRenderer renderer(self)
    cdef bytes _tail(self)


@cython.final
cdef class MetaForm:
    cdef readonly Command command
    cdef readonly bint stores
    cdef readonly bint as_it_came
    cdef readonly bytes end
    cdef MetaReplyRenderer _edge
    cdef bint _tells_key

    cpdef MetaReplyRenderer renderer(self, bytes key)


@cython.final
cdef class MetaForms:
    cdef dict _forms

    @cython.locals(forms=dict)
    cpdef MetaForm form_for(self, Command command, bytes flags)
    @cython.locals(words=list, parsed=MetaCommand)
    cdef MetaForm _read(self, Command command, bytes flags, dict forms)


@cython.locals(name=bytes, error=bytes, parsed=MetaCommand, request=Request)
cpdef Request read(Command command, list words)
@cython.locals(word=bytes, key=bytes)
cpdef Request read_debug(Command command, list words)

cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplyRenderer, Request, new_request


cpdef bint is_text(bytes key) except -1
cpdef bytes encoded(bytes key)
@cython.locals(letters=bytes, padding=Py_ssize_t, end=Py_ssize_t, missing=Py_ssize_t)
cpdef bytes decoded(bytes word)


cdef class MetaReplyRenderer(ReplyRenderer):
    cdef tuple suppressed
    cdef bytes tail

    @cython.locals(reply=bytes)
    cpdef bytes render(self, Request request)


@cython.final
cdef class MetaCommand:
    cdef readonly bytes name
    cdef readonly bytes word
    cdef readonly bytes key
    cdef readonly list flags
    cdef readonly bytes error
    cdef readonly bytes mode
    cdef readonly bint quiet
    cdef bint has_cas
    cdef bint touches
    cdef bint may_recache
    cdef bint opaque_too_long
    cdef readonly bint returns_key_or_opaque
    cdef readonly bint is_known
    cdef readonly bint rewritten
    cdef readonly bint malformed

    @cython.locals(seen=set, flag=bytes, letter=bytes)
    cdef _parse_flags(self, list flags)
    cdef bytes _parse_number_flag(self, bytes letter, bytes flag)
    cdef _validate(self)
    cpdef Command command(self, Command command)
    cpdef MetaReplyRenderer renderer(self)
    cdef bytes _tail(self)


@cython.final
cdef class MetaForm:
    cdef readonly Command command
    cdef readonly bint is_store
    cdef readonly bint is_unchanged
    cdef readonly bytes end
    cdef MetaReplyRenderer _renderer
    cdef bint _returns_key

    cpdef MetaReplyRenderer renderer(self, bytes key)


@cython.final
cdef class MetaForms:
    cdef dict _forms

    @cython.locals(forms=dict)
    cpdef MetaForm form_for(self, Command command, bytes flags)
    @cython.locals(words=list, parsed=MetaCommand)
    cdef MetaForm _parse_form(self, Command command, bytes flags, dict forms)


@cython.locals(name=bytes, error=bytes, parsed=MetaCommand, request=Request)
cpdef Request parse_meta_command(Command command, list words)
@cython.locals(word=bytes, key=bytes)
cpdef Request parse_meta_debug(Command command, list words)

cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport Request, RequestParser, new_request
from gmproxy.protocol.text.meta cimport MetaForms, MetaCommand, MetaForm
from gmproxy.protocol.key_list cimport KeyListParser, KeyList
from gmproxy.protocol.recv_buffer cimport RecvBuffer

cdef dict COMMANDS
cdef bytes CRLF
cdef Command WRONG_PASSWORD
cdef MetaForms META_FORMS
cdef KeyListParser KEY_LIST_PARSER
cdef Py_ssize_t MAX_KEY, MAX_LENGTH
cdef long long MAX_FLAGS, MAX_EXPTIME


cdef class TextParser(RequestParser):
    cdef Py_ssize_t skip
    cdef Request reply_after_skip

    cpdef bint is_authenticated(self) except -1
    cpdef bint is_between_messages(self) except -1
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t, nul=Py_ssize_t,
                   name_end=Py_ssize_t, command=Command, length=Py_ssize_t, key=bytes, form=MetaForm)
    cpdef Request next_request(self)
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, end=Py_ssize_t, words=list, after=Py_ssize_t)
    cdef Request _log_in(self)
    @cython.locals(size=Py_ssize_t)
    cdef _check_unfinished(self, Py_ssize_t start)
    @cython.locals(stream=RecvBuffer, pos=Py_ssize_t, keys=KeyList)
    cdef Request _retrieve(self, Command command, Py_ssize_t start, Py_ssize_t name_end, Py_ssize_t stop)
    @cython.locals(stream=RecvBuffer, words=list, command=Command)
    cdef Request _parse_words(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t end)
    @cython.locals(request=Request)
    cdef Request _retrieve_many(self, Command command, keys, bytes prefix)
    @cython.locals(stream=RecvBuffer, key_end=Py_ssize_t, flags_end=Py_ssize_t, exptime_end=Py_ssize_t, flags=cython.longlong,
                   exptime=cython.longlong, length=cython.longlong)
    cdef Py_ssize_t _plain_length(self, Py_ssize_t name_end, Py_ssize_t stop) except -2
    @cython.locals(stream=RecvBuffer, key_end=Py_ssize_t, flags_at=Py_ssize_t)
    cdef MetaForm _plain_meta_form(self, Command command, Py_ssize_t name_end, Py_ssize_t stop)
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, key_end=Py_ssize_t, flags_at=Py_ssize_t, key=bytes, line=bytes, request=Request)
    cdef Request _plain_meta(self, MetaForm form, Py_ssize_t name_end, Py_ssize_t stop)
    @cython.locals(quiet=bint, key=bytes, line=bytes)
    cdef Request _store(self, Command command, list words, Py_ssize_t pos)
    @cython.locals(stream=RecvBuffer, start=Py_ssize_t, after=Py_ssize_t, request=Request, delete=Request)
    cdef Request _with_block(self, Command command, bytes key, bytes line, Py_ssize_t length, bint quiet, Py_ssize_t pos)
    @cython.locals(request=Request)
    cdef Request _refuse(self, bytes error, bint quiet, Py_ssize_t pos)
    cdef Request _refuse_large(self, Request delete, bint quiet, Py_ssize_t length, Py_ssize_t pos)
    cdef _skip_block(self, Py_ssize_t length, Py_ssize_t pos, bytes error, bint quiet)
    @cython.locals(parsed=MetaCommand, request=Request)
    cdef Request _meta_set(self, Command command, list words, Py_ssize_t pos)
    cdef Request _skip_refused_block(self)
    @cython.locals(quiet=bint, request=Request, line=bytes)
    cdef Request _line_about_key(self, Command command, list words, bytes number, bytes error)

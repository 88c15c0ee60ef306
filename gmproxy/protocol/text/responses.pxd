cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.request cimport ReplyParser, Request
from gmproxy.protocol.key_list cimport KeyList
from gmproxy.protocol.recv_buffer cimport RecvBuffer
from gmproxy.protocol.value_header cimport ValueHeader


cdef bytes VALUE, END, CRLF
cdef Py_ssize_t LONG_VALUE
cdef int BLANK, CARRIAGE_RETURN, LINE_FEED, MINUS, A, z, KEY, OPAQUE
cdef unsigned long long BIT_OF_A, ON_REQUEST, KNOWN_EFFECT, VALUE_FLAG, NUMBERS, SIGNED_NUMBERS, LONG_NUMBERS, BOOLEANS

cpdef bint is_error_line(bytes line) except -1


@cython.locals(letters=cython.ulonglong, at=Py_ssize_t, byte=int, before=int)
cpdef unsigned long long letters_of(bytes line, Py_ssize_t start) except? 0


@cython.final
cdef class TextReplyParser(ReplyParser):
    cdef ValueHeader _header
    cdef list _pieces
    cdef Py_ssize_t _saved
    cdef Py_ssize_t _skip

    @cython.locals(stream=RecvBuffer, end=Py_ssize_t)
    cdef Py_ssize_t _line_end(self, Py_ssize_t start) except -1
    @cython.locals(stream=RecvBuffer, after=Py_ssize_t, line=bytes)
    cdef bytes _parse_line(self, Command command)
    cdef _check_uncommon_line(self, Command command, bytes line)
    @cython.locals(stream=RecvBuffer, pos=Py_ssize_t, after=Py_ssize_t, key_end=Py_ssize_t, header=ValueHeader, end_size=Py_ssize_t,
                   keys=KeyList, reply=bytes)
    cdef bytes _parse_values(self, Request request)
    @cython.locals(stream=RecvBuffer)
    cdef bytes _begin_to_skip(self, Py_ssize_t after, Py_ssize_t length)
    @cython.locals(stream=RecvBuffer)
    cdef bint _skip_block(self) except -1
    @cython.locals(fits=bint)
    cdef bytes _join_pieces(self, bytes last)
    @cython.locals(stream=RecvBuffer, command=Command, start=Py_ssize_t, after=Py_ssize_t, code_end=Py_ssize_t, block=Py_ssize_t, code=bytes,
                   length=cython.longlong)
    cdef bytes _parse_meta(self, Request request)
    @cython.locals(stream=RecvBuffer, requested=cython.ulonglong, excluded=cython.ulonglong, end=Py_ssize_t)
    cdef bint _is_reply_to(self, Request request, bytes code, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(stream=RecvBuffer, letter=int, flag=cython.ulonglong)
    cdef bint _is_valid_flag(self, Request request, Py_ssize_t start, Py_ssize_t stop, unsigned long long excluded) except -1
    @cython.locals(stream=RecvBuffer)
    cdef bint _is_key(self, Request request, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef bint _is_opaque(self, Request request, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(stream=RecvBuffer, line=bytes)
    cdef bytes _parse_meta_error(self, Request request, Py_ssize_t after)
    cdef _unexpected_meta(self, Request request, Py_ssize_t after)
    @cython.locals(stream=RecvBuffer, keys=KeyList)
    cdef _check_key(self, Request request, Py_ssize_t start, Py_ssize_t stop)
    @cython.locals(stream=RecvBuffer)
    cdef bytes _save_values(self, Py_ssize_t pos, Py_ssize_t need)
    @cython.locals(line=bytes)
    cdef bytes _parse_error_line(self, Request request, Py_ssize_t pos, Py_ssize_t after)

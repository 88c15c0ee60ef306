cimport cython
from gmproxy.protocol.commands cimport Command
from gmproxy.protocol.meta_header cimport MetaHeader, number_of
from gmproxy.protocol.request cimport ReplyRenderer, Request
from gmproxy.protocol.value_header cimport ValueHeader
from gmproxy.protocol.binary.codec cimport Packer

cdef bytes VALUE, END, CRLF
cdef Packer PACKER
cdef int RESPONSE, OK, NOT_FOUND
cdef ValueHeader _VALUE_HEADER
cdef MetaHeader _META_HEADER


@cython.final
cdef class Operation:
    cdef readonly str kind
    cdef readonly Command command
    cdef readonly bytes mode
    cdef readonly tuple extras
    cdef readonly object has_key
    cdef readonly bint has_value
    cdef readonly bint is_read
    cdef readonly bint returns_key
    cdef readonly int not_stored
    cdef readonly bint quiet


cdef class PacketRenderer(ReplyRenderer):
    cdef readonly Operation operation
    cdef readonly int opcode
    cdef readonly unsigned int opaque

    cdef begin(self, Operation operation, int opcode, unsigned int opaque)
    @cython.locals(reply=bytes, kind=str)
    cpdef bytes render(self, Request request)
    cpdef bytes value_packet(self, bytes reply, ValueHeader header, bytes key)
    @cython.locals(code=bytes, status=int)
    cpdef bytes render_line(self, bytes reply, bytes key)
    @cython.locals(operation=Operation, header=MetaHeader, value=bytes)
    cdef bytes _render_meta(self, bytes reply, bytes key)
    cpdef bytes miss_packet(self, bytes key)
    cdef bytes _render_error_line(self, bytes line)
    cdef bytes _render_stats(self, bytes reply)
    cpdef bytes error_packet(self, int status)
    cpdef bytes packet(self, int status=*, object cas=*, bytes extras=*, bytes key=*, bytes value=*)


@cython.locals(renderer=PacketRenderer)
cpdef PacketRenderer new_renderer(Operation operation, int opcode, unsigned int opaque)


cdef class PacketSequenceRenderer(ReplyRenderer):
    cdef readonly list renderers

    @cython.locals(reply=bytes, rendered=list, start=Py_ssize_t, renderer=PacketRenderer, key=bytes, key_end=Py_ssize_t, header=ValueHeader)
    cpdef bytes render(self, Request request)

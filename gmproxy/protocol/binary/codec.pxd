from gmproxy.protocol.recv_buffer cimport RecvBuffer
from gmproxy.protocol.value_header cimport ValueHeader


cdef class PacketHeader:
    cdef readonly int magic
    cdef readonly int opcode
    cdef readonly Py_ssize_t key_length
    cdef readonly Py_ssize_t extras_length
    cdef readonly int status
    cdef readonly Py_ssize_t body_length
    cdef readonly unsigned int opaque
    cdef readonly unsigned long long cas

    cpdef parse(self, RecvBuffer stream, Py_ssize_t start)


cdef class Packer:
    cpdef bytes packet(self, int magic, int opcode, int status, unsigned int opaque, unsigned long long cas, bytes extras, bytes key, bytes value)
    cpdef bytes value_packet(self, int opcode, unsigned int opaque, bytes reply, ValueHeader header, bytes key)

cimport cython
from gmproxy.protocol.request cimport Request


cpdef tuple encode_request(Request request, long long first)
@cython.locals(opcode=int, quiet=int, encoded=list)
cdef tuple _encode_get(Request request, long long first)

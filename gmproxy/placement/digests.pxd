cimport cython

# A constant above 2^31, which is a Python object for Cython where it is a literal.
cdef unsigned int M32

@cython.locals(c=cython.uint, byte=cython.uint)
cpdef object crc16(bytes key)

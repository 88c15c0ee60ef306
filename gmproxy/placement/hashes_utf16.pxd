cimport cython

# A constant above 2^31, which is a Python object for Cython where it is a literal.
cdef unsigned int M32

@cython.locals(h=cython.uint, unit=cython.uint)
cdef object _java_polynomial(bytes key, unsigned int base)
@cython.locals(h=cython.double, unit=cython.double)
cpdef object nodeproxy(bytes key)

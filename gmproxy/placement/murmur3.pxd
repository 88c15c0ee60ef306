cimport cython

# Constants above 2^31, which are Python objects for Cython where they are literals.
cdef unsigned int M32, _BEEF, _MIX_1, _MIX_2, _END_1, _END_2

@cython.locals(k=cython.uint)
cpdef list scrambled_words(bytes data)
@cython.locals(k=cython.uint)
cpdef object scrambled_tail(bytes data)
@cython.locals(k=cython.uint)
cpdef unsigned int mix_words(unsigned int h, list words) except? 0
cpdef unsigned int finish(unsigned int h, unsigned int tail, unsigned int length) noexcept

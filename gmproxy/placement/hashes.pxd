cimport cython

# Constants above 2^31, which are Python objects for Cython where they are literals.
cdef unsigned int M32, _BEEF

@cython.locals(h=cython.uint, at=Py_ssize_t, byte=cython.schar, mask=cython.uint)
cdef unsigned int _one_at_a_time(const unsigned char *text, Py_ssize_t length) noexcept
@cython.locals(at=Py_ssize_t, byte=cython.schar, mask=cython.uint)
cdef unsigned int _fnv1(const unsigned char *text, Py_ssize_t length, unsigned int h, unsigned int prime) noexcept
@cython.locals(at=Py_ssize_t, byte=cython.schar, mask=cython.uint)
cdef unsigned int _fnv1a(const unsigned char *text, Py_ssize_t length, unsigned int h, unsigned int prime) noexcept
cdef unsigned int _word(const unsigned char *text, Py_ssize_t at) noexcept
@cython.locals(word=cython.uint, index=Py_ssize_t)
cdef unsigned int _last_word(const unsigned char *text, Py_ssize_t at, Py_ssize_t length) noexcept
@cython.locals(h=cython.uint, byte=cython.uint, word=cython.uint, at=Py_ssize_t, whole=Py_ssize_t, left=Py_ssize_t)
cdef unsigned int _hsieh(const unsigned char *text, Py_ssize_t length) noexcept
@cython.locals(h=cython.uint, k=cython.uint, at=Py_ssize_t, whole=Py_ssize_t)
cdef unsigned int _murmur(const unsigned char *text, Py_ssize_t length) noexcept
cdef unsigned int _rotate(unsigned int x, int bits) noexcept
@cython.locals(a=cython.uint, b=cython.uint, c=cython.uint, at=Py_ssize_t, last=Py_ssize_t)
cdef unsigned int _jenkins(const unsigned char *text, Py_ssize_t length) noexcept
@cython.locals(h=cython.uint, at=Py_ssize_t, byte=cython.schar)
cdef unsigned int _djb(const unsigned char *text, Py_ssize_t length) noexcept


cdef class QuickHash:
    cdef unsigned int hash_bytes(self, const unsigned char *text, Py_ssize_t length) except? 0


cdef class QuickFunction(QuickHash):
    cdef object hash_key


cdef class QuickFnv1(QuickHash):
    cdef unsigned int start
    cdef unsigned int prime


cdef class QuickFnv1a(QuickFnv1):
    pass


cdef class QuickOneAtATime(QuickHash):
    pass


cdef class QuickHsieh(QuickHash):
    pass


cdef class QuickMurmur(QuickHash):
    pass


cdef class QuickJenkins(QuickHash):
    pass


cdef class QuickDjb(QuickHash):
    pass

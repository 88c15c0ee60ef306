# What `hash_key` returns is an object: some hashes are signed, and the values of one are unlimited.

cimport cython
from gmproxy.placement.hashes cimport QuickHash
from gmproxy.placement.murmur3 cimport finish, mix_words, scrambled_tail, scrambled_words


cdef class Locator:
    cpdef Py_ssize_t locate(self, bytes key) except -1
    cdef Py_ssize_t locate_in(self, const unsigned char *text, Py_ssize_t length) except -1


cdef class HashTagLocator(Locator):
    cdef readonly Locator inner
    cdef readonly object part


cdef class SingleServer(Locator):
    cdef readonly Py_ssize_t owner


cdef class Buckets(Locator):
    cdef int[::1] owners
    cdef readonly object hash_key
    cdef QuickHash quick
    cdef unsigned int count

    @cython.locals(quick=QuickHash)
    cdef Py_ssize_t locate_in(self, const unsigned char *text, Py_ssize_t length) except -1
    cdef Py_ssize_t _locate_object(self, bytes key) except -1


cdef class AbsoluteBuckets(Buckets):
    pass


cdef class FoldedBuckets(Buckets):
    pass


cdef class RandomOwner(Locator):
    cdef readonly list owners
    cdef readonly Py_ssize_t count


cdef class Ring(Locator):
    cdef readonly list points
    cdef readonly list owners
    cdef readonly object hash_key
    cdef QuickHash quick
    cdef long long[::1] _steps
    cdef int[::1] _points_below
    cdef int _shift
    cdef int[::1] _owners

    cdef _divide(self)
    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _below(self, long long h) except -1
    cpdef Py_ssize_t at(self, object h) except -1


cdef class RingBelow(Ring):
    @cython.locals(h=cython.longlong)
    cdef Py_ssize_t locate_in(self, const unsigned char *text, Py_ssize_t length) except -1


cdef class MagentRing(Ring):
    cdef readonly Buckets buckets
    cdef readonly object mask


cdef class Rendezvous(Locator):
    cdef readonly list groups
    cdef readonly list owners
    cdef readonly bint quote_key

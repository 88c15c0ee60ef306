cimport cython


cdef Py_ssize_t NO_ENTRY, BYTES_PER_KEY, _KEY_AT, _OVERFLOWED


cdef class KeysInFlight:
    cdef unsigned char[::1] _memory
    cdef unsigned int[::1] _free
    cdef Py_ssize_t _free_count
    cdef Py_ssize_t _without_entry

    @cython.locals(entry=Py_ssize_t, at=Py_ssize_t, length=Py_ssize_t, index=Py_ssize_t)
    cpdef Py_ssize_t add_key(self, bytes key, unsigned long tag) except -1
    cpdef remove_entry(self, Py_ssize_t entry)

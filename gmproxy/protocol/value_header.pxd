cimport cython

cdef Py_ssize_t MAX_NUMBER_DIGITS, MAX_CAS_DIGITS
cdef unsigned long long UINT64


@cython.final
cdef class ValueHeader:
    cdef readonly unsigned long long flags
    cdef readonly Py_ssize_t length
    cdef readonly unsigned long long cas
    cdef readonly bint has_cas
    cdef readonly Py_ssize_t key_start
    cdef readonly Py_ssize_t key_end
    cdef readonly Py_ssize_t data_start
    cdef readonly Py_ssize_t end
    cdef unsigned long long _number

    @cython.locals(at=Py_ssize_t)
    cdef bint parse_after_key(self, const unsigned char *text, Py_ssize_t key_end, Py_ssize_t stop) noexcept
    @cython.locals(first=Py_ssize_t, number=cython.ulonglong)
    cdef Py_ssize_t _parse_number(self, const unsigned char *text, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t max_digits) noexcept
    cpdef bint parse_value(self, bytes reply, Py_ssize_t start) except -1

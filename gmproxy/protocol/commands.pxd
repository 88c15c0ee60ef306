cimport cython


@cython.final
cdef class Command:
    cdef readonly bytes name
    cdef readonly bytes prefix
    cdef readonly Py_ssize_t number
    cdef readonly str kind
    cdef readonly Py_ssize_t min_args
    cdef readonly bint ends_with_length
    cdef readonly bint returns_values
    cdef readonly bint is_meta
    cdef readonly bint is_read
    cdef readonly bint is_write
    cdef readonly bint reads_old_value
    cdef readonly bint overwrites
    cdef readonly bint only_touches
    cdef readonly bint conditional
    cdef readonly bint idempotent
    cdef readonly frozenset valid_replies
    cdef readonly tuple success_prefixes
    cdef readonly bytes miss_reply

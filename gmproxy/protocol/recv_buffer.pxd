cimport cython


cdef enum:
    MAX_NUMBER_DIGITS = 10  # of 32 bits: flags, and the length of a value
    MAX_CAS_DIGITS = 20     # of 64 bits


cdef inline Py_ssize_t after_digits(const char *text, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t most) noexcept:
    """The offset after the 1 to `most` digits that stand in `text` from `at` on, before `stop`; or -1."""
    cdef Py_ssize_t first = at
    if stop > at + most:
        stop = at + most
    while at < stop and c"0" <= text[at] <= c"9":
        at += 1
    return at if at > first else -1


cdef inline Py_ssize_t after_value_numbers(const char *text, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t *length) noexcept:
    """What follows the key in the header of a VALUE block, ` flags length` and perhaps ` cas`, from `at` on and before `stop`: the offset
    after it, and the `length` of the data; or -1. The compiled half of `RecvBuffer.value_length`: nothing else reads such numbers."""
    cdef Py_ssize_t first
    if at >= stop or text[at] != c" ":
        return -1
    at = after_digits(text, at + 1, stop, MAX_NUMBER_DIGITS)
    if at < 0 or at >= stop or text[at] != c" ":
        return -1
    first = at + 1
    at = after_digits(text, first, stop, MAX_NUMBER_DIGITS)
    if at < 0:
        return -1
    length[0] = 0
    while first < at:
        length[0] = length[0] * 10 + (text[first] - c"0")
        first += 1
    if at < stop and text[at] == c" ":
        at = after_digits(text, at + 1, stop, MAX_CAS_DIGITS)
    return at


@cython.final
cdef class RecvBuffer:
    cdef public Py_ssize_t pos
    cdef readonly Py_ssize_t end
    cdef public Py_ssize_t need
    cdef const char *_text
    cdef bytes _own
    cdef Py_ssize_t _room
    cdef Py_ssize_t _searched
    cdef bint _held

    cpdef Py_ssize_t receive(self, int fd) except -2
    cdef char *_make_room(self, Py_ssize_t *room) except NULL
    cdef char *_borrow(self, Py_ssize_t *room) except NULL
    cdef int _move_out(self) except -1
    cdef int _own_copy(self, Py_ssize_t capacity) except -1
    cpdef Py_ssize_t send(self, int fd, bytes data, Py_ssize_t offset) except -1
    cpdef feed(self, bytes chunk)
    cpdef Py_ssize_t size(self) noexcept
    cpdef forget(self)
    cpdef bint ready(self) noexcept
    cpdef int byte(self, Py_ssize_t at) noexcept
    cpdef Py_ssize_t line_end(self, Py_ssize_t start) noexcept
    cpdef Py_ssize_t word_end(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef Py_ssize_t find_nul(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bint is_text(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bytes cut(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef bint begins(self, Py_ssize_t start, bytes text) noexcept
    cpdef bint equals(self, Py_ssize_t start, Py_ssize_t stop, bytes text) noexcept
    cpdef long long number(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bint cas_number(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef long long value_length(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef wait_for(self, Py_ssize_t start, Py_ssize_t need)
    cpdef Py_ssize_t drop(self, Py_ssize_t count) noexcept

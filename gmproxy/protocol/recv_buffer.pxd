cimport cython
from gmproxy.protocol.value_header cimport ValueHeader


@cython.final
cdef class RecvBuffer:
    cdef public Py_ssize_t pos
    cdef readonly Py_ssize_t end
    cdef public Py_ssize_t need
    cdef readonly bint filled
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
    cpdef feed(self, bytes chunk)
    cpdef Py_ssize_t size(self) noexcept
    cpdef release_memory(self)
    cpdef bint has_news(self) noexcept
    cpdef int byte_at(self, Py_ssize_t at) noexcept
    cpdef Py_ssize_t line_end(self, Py_ssize_t start) noexcept
    cpdef Py_ssize_t word_end(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef Py_ssize_t find_nul(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bint is_text(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bytes cut(self, Py_ssize_t start, Py_ssize_t stop)
    cpdef bint starts_with(self, Py_ssize_t start, bytes text) noexcept
    cpdef bint equals(self, Py_ssize_t start, Py_ssize_t stop, bytes text) noexcept
    cpdef long long parse_number(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bint is_cas_number(self, Py_ssize_t start, Py_ssize_t stop) noexcept
    cpdef bint parse_value_header(self, ValueHeader header, Py_ssize_t key_end, Py_ssize_t stop) noexcept
    cpdef require(self, Py_ssize_t start, Py_ssize_t need)
    cpdef Py_ssize_t discard(self, Py_ssize_t count) noexcept

cimport cython
from gmproxy.shared.keys_in_flight cimport KeysInFlight

cdef unsigned long long _BEGIN, _LOWER, _WORD
cdef int _HALF
cdef int _PRIMARY, _BACKUP, _FILL, _COPIES
cdef Py_ssize_t EVERY_KEY, SLOTS, WORDS_PER_SLOT

# Constants above 2^31, which are Python objects for Cython where they are literals.
cdef unsigned int _FNV_BASIS, _FNV_PRIME, _M32


@cython.locals(value=cython.uint, byte=cython.uchar)
cpdef Py_ssize_t slot_of(bytes key) except -1


cdef class Note:
    cdef readonly Py_ssize_t slot
    cdef readonly int word
    cdef readonly Py_ssize_t entry
    cdef readonly unsigned long long begun
    cdef readonly bint contested
    cdef public bint alone
    cdef readonly unsigned long long before


cdef class ChangeNotes:
    cdef readonly Py_ssize_t column
    cdef public object journal
    cdef unsigned long long[::1] _cells
    cdef unsigned long long[::1] _columns_used
    cdef KeysInFlight _keys
    cdef list _ended

    cpdef Note begin_change(self, bytes key, unsigned long tag, int word)
    cpdef bint is_contested(self, Note note) except -1
    cpdef bint primary_has_changed(self, Note note) except -1
    cpdef end_note(self, Note note)
    @cython.locals(entry=Py_ssize_t)
    cpdef journal_written(self)
    @cython.locals(slot=Py_ssize_t, own=Py_ssize_t)
    cpdef bint are_under_way(self, bytes key, unsigned long long but=*, bint on_copies=*) except -1
    @cython.locals(slot=Py_ssize_t, own=Py_ssize_t)
    cpdef bint is_changing(self, bytes key) except -1
    cpdef Note begin_fill(self, bytes key, unsigned long tag)
    cpdef bint fills_are_elsewhere(self, bytes key) except -1
    cpdef bint any_fills_are_elsewhere(self) except -1
    @cython.locals(column=Py_ssize_t, milliseconds=cython.ulonglong)
    cpdef bint fills_are_stopped(self, double now) except -1
    @cython.locals(note=Note)
    cdef Note _begin(self, bytes key, unsigned long tag, int word)
    cdef _observe(self, Note note)
    @cython.locals(at=Py_ssize_t)
    cdef _add(self, Py_ssize_t slot, int word, long long number)
    @cython.locals(at=Py_ssize_t, column=Py_ssize_t, begun=cython.ulonglong)
    cdef unsigned long long _begun_elsewhere(self, Py_ssize_t slot, bint alone) except? 1
    @cython.locals(column=Py_ssize_t)
    cdef bint _are_under_way(self, Py_ssize_t slot, int word) except -1

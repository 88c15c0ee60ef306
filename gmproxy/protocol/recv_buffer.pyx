# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled form of gmproxy/protocol/recv_buffer.py: see there.

All connections receive into one shared buffer and parse there, so a message is copied once, when it is cut out. Bytes that are left when another
RecvBuffer receives are moved to a buffer of their own. The rest of a long message is received directly into such a buffer, which is made for it, and
is then the message itself: this saves two of three copies of a value of 16 KiB (the benchmark's row value-16k).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy, memmove

from gmproxy.protocol.value_header cimport ValueHeader
from gmproxy.transport.plain cimport PlainTransport
from gmproxy.transport.plain import PLAIN

cdef enum:
    RECV_SIZE = 262144          # bytes in the shared buffer
    AT_ONCE = 131072            # bytes received in one call into an own buffer, so that one connection does not delay the others
    SHORT = 4096                # bytes: a shorter message is copied instead of received into a buffer of its own
    TRUSTED = 8 * 1024 * 1024   # bytes allocated at once for a message that announces its length; more only once they have arrived
    MAX_NUMBER_DIGITS = 10      # of 32 bits
    MAX_CAS_DIGITS = 20         # of 64 bits

cdef PlainTransport transport = PLAIN

cdef char shared[RECV_SIZE]
cdef RecvBuffer tenant = None  # the RecvBuffer whose bytes are in `shared`


cdef inline Py_ssize_t find(const char *text, int byte, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """The offset of `byte` in text[start:stop], or -1."""
    cdef const char *match
    if start >= stop:
        return -1
    match = <const char *>memchr(text + start, byte, stop - start)
    return -1 if match == NULL else match - text


cdef inline bint are_digits(const char *text, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t most) noexcept:
    """True if text[start:stop] is 1 to `most` digits."""
    if stop <= start or stop - start > most:
        return False
    while start < stop:
        if not c"0" <= text[start] <= c"9":
            return False
        start += 1
    return True


cdef class RecvBuffer:

    # _text   pointer to offset 0, in `_own` or in `shared`
    # _own    the buffer, or None if it is `shared`
    # _room   number of bytes in `_own` that may be written to, from offset 0 on; 0 if it is an object of the caller of feed()
    # _held   True: fewer than `need` bytes have arrived

    def __init__(self):
        self.pos = self.end = self.need = 0
        self.filled = False
        self._text = shared
        self._own = None
        self._room = 0
        self._searched = 0
        self._held = False

    cpdef Py_ssize_t receive(self, int fd) except -2:
        cdef Py_ssize_t room = 0
        cdef bint waits = self.pos < self.end
        cdef char *to = self._make_room(&room)
        cdef Py_ssize_t count = transport.recv_into(fd, to, room)
        self.filled = count == room
        if count < 0:
            return count
        self.end += count
        self._held = waits and self.end - self.pos < self.need
        return count

    cdef char *_make_room(self, Py_ssize_t *room) except NULL:
        """Where the next bytes are received to; sets `room` to the number of bytes that fit there."""
        cdef Py_ssize_t left = self.end - self.pos
        cdef Py_ssize_t capacity = self.need
        if left == 0 or (left < SHORT and self.need <= SHORT):
            return self._borrow(room)
        if self.end >= self._room:
            if capacity <= left:  # the length of the message is unknown
                capacity = 2 * left
            elif capacity > TRUSTED:
                capacity = min(capacity, max(2 * left, <Py_ssize_t>TRUSTED))
            self._own_copy(capacity)
        room[0] = min(self._room - self.end, <Py_ssize_t>AT_ONCE)
        return PyBytes_AS_STRING(self._own) + self.end

    cdef char *_borrow(self, Py_ssize_t *room) except NULL:
        """As _make_room in the shared buffer: moves the bytes that are left to its beginning."""
        global tenant
        cdef Py_ssize_t left = self.end - self.pos
        if tenant is not self:
            if tenant is not None:
                tenant._move_out()
            tenant = self
        if left:
            memmove(shared, self._text + self.pos, left)
        self._searched = max(self._searched - self.pos, 0)
        self._text = shared
        self._own = None
        self._room = 0
        self.pos = 0
        self.end = left
        room[0] = RECV_SIZE - left
        return shared + left

    cdef int _move_out(self) except -1:
        """Leave the shared buffer, which another RecvBuffer needs."""
        if self.pos == self.end:
            self.pos = self.end = self._searched = 0
            return 0
        return self._own_copy(self.end - self.pos)

    cdef int _own_copy(self, Py_ssize_t capacity) except -1:
        """Move the bytes that are left to a new buffer `_own` of `capacity` bytes."""
        global tenant
        cdef bytes own = PyBytes_FromStringAndSize(NULL, capacity)
        cdef Py_ssize_t left = self.end - self.pos
        memcpy(PyBytes_AS_STRING(own), self._text + self.pos, left)
        self._searched = max(self._searched - self.pos, 0)
        self._own = own
        self._text = PyBytes_AS_STRING(own)
        self._room = capacity
        self.pos = 0
        self.end = left
        if tenant is self:
            tenant = None
        return 0

    cpdef feed(self, bytes chunk):
        global tenant
        cdef Py_ssize_t left = self.end - self.pos, count = PyBytes_GET_SIZE(chunk)
        if left == 0:
            self._own = chunk
            self._text = PyBytes_AS_STRING(chunk)
            self._room = 0
            self._searched = 0
            self.pos = 0
            self.end = count
            self._held = False
            if tenant is self:
                tenant = None
            return
        if self.end + count > self._room:
            self._own_copy(max(left + count, self.need if self.need <= TRUSTED else 2 * left + count))
        memcpy(PyBytes_AS_STRING(self._own) + self.end, PyBytes_AS_STRING(chunk), count)
        self.end += count
        self._held = self.end - self.pos < self.need

    cpdef Py_ssize_t size(self) noexcept:
        return self.end - self.pos

    cpdef release_memory(self):
        if self.pos == self.end:
            self.pos = self.end = self._searched = 0
            self._text = shared
            self._own = None
            self._room = 0

    cpdef bint has_news(self) noexcept:
        return self.pos < self.end and not self._held

    cpdef int byte_at(self, Py_ssize_t at) noexcept:
        return <unsigned char>self._text[at]

    cpdef Py_ssize_t line_end(self, Py_ssize_t start) noexcept:
        cdef Py_ssize_t end = find(self._text, 10, self._searched if self._searched > start else start, self.end)
        if end < 0:
            self._searched = self.end
        return end

    cpdef Py_ssize_t word_end(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        cdef Py_ssize_t end = find(self._text, 32, start, stop)
        return stop if end < 0 else end

    cpdef Py_ssize_t find_nul(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        return find(self._text, 0, start, stop)

    cpdef bint is_text(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        cdef Py_ssize_t at
        for at in range(start, min(stop, self.end)):
            if self._text[at] == c" " or self._text[at] == c"\n" or self._text[at] == c"\r" or self._text[at] == 0:
                return False
        return True

    cpdef bytes cut(self, Py_ssize_t start, Py_ssize_t stop):
        if stop > self.end:
            stop = self.end
        if start == 0 and self._own is not None and stop == PyBytes_GET_SIZE(self._own):
            return self._own  # it is full, so nothing will be written to it
        return PyBytes_FromStringAndSize(self._text + start, stop - start if stop > start else 0)

    cpdef bint starts_with(self, Py_ssize_t start, bytes text) noexcept:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
        return start + size <= self.end and memcmp(self._text + start, PyBytes_AS_STRING(text), size) == 0

    cpdef bint equals(self, Py_ssize_t start, Py_ssize_t stop, bytes text) noexcept:
        return stop - start == PyBytes_GET_SIZE(text) and self.starts_with(start, text)

    cpdef long long parse_number(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        cdef long long number = 0
        if not are_digits(self._text, start, stop, MAX_NUMBER_DIGITS):
            return -1
        while start < stop:
            number = number * 10 + (self._text[start] - c"0")
            start += 1
        return number

    cpdef bint is_cas_number(self, Py_ssize_t start, Py_ssize_t stop) noexcept:
        return are_digits(self._text, start, stop, MAX_CAS_DIGITS)

    cpdef bint parse_value_header(self, ValueHeader header, Py_ssize_t key_end, Py_ssize_t stop) noexcept:
        return header.parse_after_key(<const unsigned char *>self._text, key_end, min(stop, self.end))

    cpdef require(self, Py_ssize_t start, Py_ssize_t need):
        self.pos = start
        self.need = need

    cpdef Py_ssize_t discard(self, Py_ssize_t count) noexcept:
        cdef Py_ssize_t available = self.end - self.pos
        if self._held:
            return 0
        if available > count:
            available = count
        self.pos += available
        return available

# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/protocol/retrieval.py: see there.

A key is never a Python object here, but a span of the line that the client sent: 100 keys took 29 µs as objects (the
benchmark's rows multi-get), of which the servers' system calls are not a part.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcmp, memcpy, memset

cdef bytes END = b"END\r\n"


cdef class Keys:

    def __cinit__(self, keys=()):
        cdef bytes key
        cdef Py_ssize_t at = 0
        self._text = b"".join(keys)
        self._allocate(len(keys))
        for key in keys:
            self._spans[self._count] = Span(<int>at, <int>PyBytes_GET_SIZE(key))
            self._count += 1
            at += PyBytes_GET_SIZE(key)

    def __dealloc__(self):
        PyMem_Free(self._spans)

    cdef int _allocate(self, Py_ssize_t capacity) except -1:
        """Room for so many keys, and none yet."""
        PyMem_Free(self._spans)
        self._count = 0
        self._spans = <Span *>PyMem_Malloc(max(capacity, 1) * sizeof(Span))
        if self._spans == NULL:
            raise MemoryError
        return 0

    def __len__(self):
        return self._count

    def __getitem__(self, Py_ssize_t index):
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError("no key with this number")
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._text) + self._spans[index].start, self._spans[index].length)

    def __eq__(self, other):
        return list(self) == list(other)

    def __repr__(self):
        return repr(list(self))

    cpdef bytes line(self, bytes prefix):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix) + self._count + 1, number
        cdef const char *text = PyBytes_AS_STRING(self._text)
        cdef bytes line
        cdef char *to
        for number in range(self._count):
            size += self._spans[number].length
        line = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AS_STRING(line)
        memcpy(to, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        to += PyBytes_GET_SIZE(prefix)
        for number in range(self._count):
            memcpy(to, text + self._spans[number].start, self._spans[number].length)
            to += self._spans[number].length
            to[0] = c" "
            to += 1
        to[-1] = c"\r"  # in the place of the last blank
        to[0] = c"\n"
        return line

    cpdef Division divide(self, Locator locator, Py_ssize_t servers):
        cdef Division division = Division.__new__(Division, self)
        cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(self._text)
        cdef int *groups = <int *>PyMem_Malloc(max(servers, 1) * sizeof(int))  # server -> its group
        cdef Py_ssize_t number, owner
        if groups == NULL:
            raise MemoryError
        try:
            memset(groups, -1, servers * sizeof(int))
            for number in range(self._count):
                owner = locator.locate_in(text + self._spans[number].start, self._spans[number].length)
                if groups[owner] < 0:
                    groups[owner] = <int>len(division.owners)
                    division.owners.append(owner)
                division._order[number] = groups[owner]
        finally:
            PyMem_Free(groups)
        division._share_out(self)
        return division


cpdef Keys read_keys(Stream stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest):
    cdef Keys keys = Keys.__new__(Keys)
    cdef const char *text
    cdef Py_ssize_t at = 0, size, first, count = 1
    keys._text = stream.cut(start, stop)
    text = PyBytes_AS_STRING(keys._text)
    size = PyBytes_GET_SIZE(keys._text)
    for at in range(size):
        count += text[at] == c" "
    keys._allocate(count)
    at = 0
    while at < size:
        first = at
        while at < size and text[at] != c" ":
            at += 1
        if at - first > longest:
            return None
        if at > first:
            keys._spans[keys._count] = Span(<int>first, <int>(at - first))
            keys._count += 1
        at += 1
    return keys


cdef class Division:

    def __cinit__(self, Keys keys, list order=None, list owners=None):
        cdef Py_ssize_t number
        self._count = keys._count
        self._order = <int *>PyMem_Malloc(max(self._count, 1) * sizeof(int))
        if self._order == NULL:
            raise MemoryError
        self.parts = []
        self.owners = [] if owners is None else owners
        if order is not None:
            for number in range(self._count):
                self._order[number] = order[number]
            self._share_out(keys)

    def __dealloc__(self):
        PyMem_Free(self._order)

    cdef int _share_out(self, Keys keys) except -1:
        cdef Py_ssize_t groups = len(self.owners), number
        cdef Py_ssize_t *sizes = <Py_ssize_t *>PyMem_Malloc(max(groups, 1) * sizeof(Py_ssize_t))
        cdef void **parts = <void **>PyMem_Malloc(max(groups, 1) * sizeof(void *))
        cdef Keys part
        try:
            if sizes == NULL or parts == NULL:
                raise MemoryError
            memset(sizes, 0, groups * sizeof(Py_ssize_t))
            for number in range(self._count):
                sizes[self._order[number]] += 1
            for number in range(groups):
                part = Keys.__new__(Keys)
                part._text = keys._text
                part._allocate(sizes[number])
                self.parts.append(part)
                parts[number] = <void *>part
            for number in range(self._count):
                part = <Keys>parts[self._order[number]]
                part._spans[part._count] = keys._spans[number]
                part._count += 1
        finally:
            PyMem_Free(sizes)
            PyMem_Free(parts)
        return 0

    cpdef bytes merge(self, list replies, list blocks):
        cdef Py_ssize_t count = len(replies)
        cdef Part *parts = <Part *>PyMem_Malloc(max(count, 1) * sizeof(Part))
        if parts == NULL:
            raise MemoryError
        try:
            return _merge(self._order, self._count, parts, _describe(parts, replies, blocks))
        finally:
            PyMem_Free(parts)


cdef struct Part:
    const char *reply
    Block *next       # the first of its blocks that was not taken
    Block *stop       # and where they end
    Py_ssize_t asked  # how many of its keys have been passed
    Py_ssize_t taken  # how many of its bytes have been taken


cdef Py_ssize_t _describe(Part *parts, list replies, list blocks) except -1:
    """Fill in `parts`; returns how many bytes their blocks have together."""
    cdef Py_ssize_t number, size = 0
    cdef Blocks own
    cdef bytes reply
    for number in range(len(replies)):
        reply = replies[number]
        own = blocks[number]
        parts[number] = Part(PyBytes_AS_STRING(reply), own._blocks, own._blocks + own._count, 0, 0)
        if own._count:
            if own._blocks[own._count - 1].end > PyBytes_GET_SIZE(reply):
                raise ValueError("the blocks are not of this reply")
            size += own._blocks[own._count - 1].end
    return size


cdef bytes _merge(int *order, Py_ssize_t keys, Part *parts, Py_ssize_t size):
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(END))
    cdef char *to = PyBytes_AS_STRING(answer)
    cdef char *limit = to + size
    cdef Part *part
    cdef Py_ssize_t number, length
    for number in range(keys):
        part = parts + order[number]
        if part.next < part.stop and part.next.place == part.asked:
            length = part.next.end - part.taken
            memcpy(to, part.reply + part.taken, length)
            to += length
            part.taken = part.next.end
            part.next += 1
        part.asked += 1
    if to != limit:
        raise ValueError("there are values of keys that were not asked for")
    memcpy(to, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))
    return answer


cdef class Blocks:

    def __cinit__(self, Keys keys not None):
        self.keys = keys
        self.next = 0
        self._count = 0
        self._blocks = <Block *>PyMem_Malloc(max(keys._count, 1) * sizeof(Block))
        if self._blocks == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._blocks)

    def __len__(self):
        return self._count

    cpdef bint find(self, Stream stream, Py_ssize_t start, Py_ssize_t stop):
        cdef const char *text = PyBytes_AS_STRING(self.keys._text)
        cdef Py_ssize_t at = self.next
        cdef Span span
        while at < self.keys._count:
            span = self.keys._spans[at]
            at += 1
            if span.length == stop - start and memcmp(text + span.start, stream._text + start, span.length) == 0:
                self.next = at
                return True
        return False

    cpdef add(self, Py_ssize_t end):
        if self._count == self.keys._count:
            raise IndexError("more values than keys")
        self._blocks[self._count] = Block(<int>(self.next - 1), end)
        self._count += 1

    cpdef Py_ssize_t pass_plain(self, Stream stream, Py_ssize_t start, Py_ssize_t before):
        """`VALUE <the next key> <1-10 digits> <1-8 digits>[ <1-20 digits>]` CRLF, the data, CRLF."""
        cdef const char *keys = PyBytes_AS_STRING(self.keys._text)
        cdef const char *text = stream._text
        cdef Py_ssize_t number = self.next, at, end = stream.end, length
        cdef Span span
        while number < self.keys._count:
            span = self.keys._spans[number]
            at = start + LABEL_SIZE + span.length
            if end - at < LONGEST_NUMBERS or memcmp(text + start, LABEL, LABEL_SIZE) != 0:
                return start
            if text[at] != c" " or memcmp(text + start + LABEL_SIZE, keys + span.start, span.length) != 0:
                number += 1  # the server does not have this one
                continue
            at = _after_digits(text, at + 1, MAX_FLAG_DIGITS)
            if at < 0 or text[at] != c" ":
                return start
            at += 1
            length = 0
            if not c"0" <= text[at] <= c"9":
                return start
            while c"0" <= text[at] <= c"9" and length < MAX_PLAIN:
                length = length * 10 + (text[at] - c"0")
                at += 1
            if text[at] == c" ":
                at = _after_digits(text, at + 1, MAX_CAS_DIGITS)
                if at < 0:
                    return start
            if text[at] != c"\r" or text[at + 1] != c"\n":
                return start
            at += 2 + length
            if end - at < 2 or text[at] != c"\r" or text[at + 1] != c"\n":
                return start
            start = at + 2
            self._blocks[self._count] = Block(<int>number, before + start)
            self._count += 1
            number += 1
            self.next = number
        return start


cdef enum:
    LABEL_SIZE = 6        # of "VALUE "
    MAX_FLAG_DIGITS = 10
    MAX_PLAIN = 10000000  # bytes of a value
    MAX_CAS_DIGITS = 20
    LONGEST_NUMBERS = 48  # more than all there can be after the key up to the data: a header that ends here is left to the reply reader

cdef const char *LABEL = b"VALUE "


cdef inline Py_ssize_t _after_digits(const char *text, Py_ssize_t at, Py_ssize_t most):
    """The offset after 1 to `most` digits, or -1."""
    cdef Py_ssize_t first = at
    while at - first < most and c"0" <= text[at] <= c"9":
        at += 1
    return at if at > first else -1

# cython: language_level=3, boundscheck=False, wraparound=False
"""The C half of gmproxy/protocol/retrieval.py: see there.

A key is never a Python object here, but a span of the line that the client sent: 100 keys took 29 µs as objects (the
benchmark's rows multi-get), of which the servers' system calls are not a part.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcmp, memcpy, memset

from gmproxy._c.message cimport Request

cdef bytes END = b"END\r\n"


cdef class Keys:

    # _text     holds the keys, each where its span says
    # _memory   holds the spans, perhaps among those of others

    def __init__(self, keys=()):
        cdef bytes key
        cdef Py_ssize_t at = 0
        self._text = b"".join(keys)
        self._memory = PyBytes_FromStringAndSize(NULL, len(keys) * sizeof(Span))
        self._spans = <Span *>PyBytes_AS_STRING(self._memory)
        for key in keys:
            self._spans[self._count] = Span(<int>at, <int>PyBytes_GET_SIZE(key), 0)
            self._count += 1
            at += PyBytes_GET_SIZE(key)

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
        cdef Division division = _new_division(self, [])
        cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(self._text)
        cdef int *groups = <int *>PyMem_Malloc(max(servers, 1) * sizeof(int))  # server -> its group
        cdef Py_ssize_t number, owner, count = 0
        if groups == NULL:
            raise MemoryError
        try:
            memset(groups, -1, servers * sizeof(int))
            for number in range(self._count):
                owner = locator.locate_in(text + self._spans[number].start, self._spans[number].length)
                if groups[owner] < 0:
                    groups[owner] = <int>count
                    count += 1
                    division.owners.append(owner)
                division._order[number] = groups[owner]
        finally:
            PyMem_Free(groups)
        division._share_out(self, count)
        return division

    # -- their values

    cpdef forget_values(self):
        cdef Py_ssize_t number
        for number in range(self._count):
            self._spans[number].end = 0
        self.next = self.values = self._end = 0

    cpdef bint find(self, Stream stream, Py_ssize_t start, Py_ssize_t stop):
        cdef const char *text = PyBytes_AS_STRING(self._text)
        cdef Py_ssize_t at = self.next
        cdef Span span
        while at < self._count:
            span = self._spans[at]
            at += 1
            if span.length == stop - start and memcmp(text + span.start, stream._text + start, span.length) == 0:
                self.next = at
                return True
        return False

    cpdef note(self, Py_ssize_t end):
        if not 0 < self.next <= self._count:
            raise IndexError("no key has been found")
        self._spans[self.next - 1].end = self._end = end
        self.values += 1

    cpdef Py_ssize_t pass_plain(self, Stream stream, Py_ssize_t start, Py_ssize_t before):
        """`VALUE <the next key> <1-10 digits> <1-8 digits>[ <1-20 digits>]` CRLF, the data, CRLF."""
        cdef const char *keys = PyBytes_AS_STRING(self._text)
        cdef const char *text = stream._text
        cdef Py_ssize_t number = self.next, at, end = stream.end, length
        cdef Span span
        while number < self._count:
            span = self._spans[number]
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
            self._spans[number].end = self._end = before + start
            self.values += 1
            number += 1
            self.next = number
        return start


cpdef Keys read_keys(Stream stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest):
    cdef Keys keys = Keys.__new__(Keys)
    cdef const char *text
    cdef Py_ssize_t at = 0, size, first, room
    keys._text = stream.cut(start, stop)
    text = PyBytes_AS_STRING(keys._text)
    size = PyBytes_GET_SIZE(keys._text)
    room = _make_room(keys, size // USUAL_KEY + 1)
    while at < size:
        first = at
        while at < size and text[at] != c" ":
            at += 1
        if at - first > longest:
            return None
        if at > first:
            if keys._count == room:
                room = _make_room(keys, 2 * room)
            keys._spans[keys._count] = Span(<int>first, <int>(at - first), 0)
            keys._count += 1
        at += 1
    return keys


cdef Py_ssize_t _make_room(Keys keys, Py_ssize_t room) except -1:
    """Have the spans that there are in memory with `room` for so many."""
    cdef bytes memory = PyBytes_FromStringAndSize(NULL, room * sizeof(Span))
    if keys._count:
        memcpy(PyBytes_AS_STRING(memory), keys._spans, keys._count * sizeof(Span))
    keys._memory = memory
    keys._spans = <Span *>PyBytes_AS_STRING(memory)
    return room


cdef class Division:

    # _memory   the spans of all parts, one part after the other, and the _order

    def __init__(self, Keys keys not None, list order not None, list owners not None):
        cdef Py_ssize_t number
        self._begin(keys, owners)
        for number in range(self._count):
            self._order[number] = order[number]
        self._share_out(keys, len(owners))

    cdef int _begin(self, Keys keys, list owners) except -1:
        self._count = keys._count
        self._memory = PyBytes_FromStringAndSize(NULL, self._count * (sizeof(Span) + sizeof(int)))
        self._order = <int *>(PyBytes_AS_STRING(self._memory) + self._count * sizeof(Span))
        self.parts = []
        self.owners = owners
        return 0

    cdef int _share_out(self, Keys keys, Py_ssize_t groups) except -1:
        """Make the parts of `keys` by the _order."""
        cdef Span *spans = <Span *>PyBytes_AS_STRING(self._memory)
        cdef Py_ssize_t *places = <Py_ssize_t *>PyMem_Malloc(max(groups, 1) * sizeof(Py_ssize_t))  # where the next span of a group goes
        cdef Py_ssize_t number, group, size, begin = 0
        cdef Keys part
        if places == NULL:
            raise MemoryError
        try:
            memset(places, 0, groups * sizeof(Py_ssize_t))
            for number in range(self._count):
                places[self._order[number]] += 1
            for group in range(groups):
                size = places[group]
                places[group] = begin
                part = Keys.__new__(Keys)
                part._text = keys._text
                part._memory = self._memory
                part._spans = spans + begin
                part._count = size
                self.parts.append(part)
                begin += size
            for number in range(self._count):
                group = self._order[number]
                spans[places[group]] = keys._spans[number]
                places[group] += 1
        finally:
            PyMem_Free(places)
        return 0

    cpdef bytes merge(self, list requests):
        cdef Py_ssize_t number, size = 0
        cdef Source *sources = <Source *>PyMem_Malloc(max(len(requests), 1) * sizeof(Source))
        cdef Request request
        cdef Keys part
        if sources == NULL:
            raise MemoryError
        try:
            for number in range(len(requests)):
                request = requests[number]
                part = self.parts[number]
                if part._end > PyBytes_GET_SIZE(request.reply):
                    raise ValueError("the values are not of this reply")
                sources[number] = Source(PyBytes_AS_STRING(request.reply), part._spans, 0)
                size += part._end
            return _merge(self._order, self._count, sources, size)
        finally:
            PyMem_Free(sources)


cdef Division _new_division(Keys keys, list owners):
    cdef Division division = Division.__new__(Division)
    division._begin(keys, owners)
    return division


cdef struct Source:
    const char *reply
    Span *next        # the first of its keys that was not passed
    Py_ssize_t taken  # how many of its bytes were


cdef bytes _merge(int *order, Py_ssize_t keys, Source *sources, Py_ssize_t size):
    """The values in `sources`, `size` bytes together."""
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(END))
    cdef char *to = PyBytes_AS_STRING(answer)
    cdef Source *source
    cdef Py_ssize_t number, end
    for number in range(keys):
        source = sources + order[number]
        end = source.next.end
        source.next += 1
        if end > source.taken:
            memcpy(to, source.reply + source.taken, end - source.taken)
            to += end - source.taken
            source.taken = end
    memcpy(to, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))
    return answer


cdef enum:
    USUAL_KEY = 8         # bytes, with its blank: for so many there is room at once
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

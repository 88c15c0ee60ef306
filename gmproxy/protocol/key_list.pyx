# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled form of gmproxy/protocol/key_list.py: see there.

A key is not a Python object here, but a span of a copy of the client's line: as objects, 100 keys took 29 µs (the benchmark's rows multi-get), not
including system calls. The memory for spans is reused from get to get, since malloc takes long for more than 1 KiB.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memcmp, memcpy, memset

from gmproxy.protocol.request cimport Request
from gmproxy.protocol.value_header cimport ValueHeader

cdef bytes END = b"END\r\n"

cdef ValueHeader header = ValueHeader()  # used for each value

cdef enum:
    BLOCK = 4096     # bytes: enough for the spans of 100 keys
    MAX_FREE = 64    # maximum number of free blocks
    SMALL = 1000     # bytes: malloc is fast up to this size

cdef char *free_blocks[MAX_FREE]
cdef int free_count = 0


@cython.freelist(32)
cdef class Memory:

    # A piece of memory. One of BLOCK bytes is taken from the free blocks and returned to them.

    def __dealloc__(self):
        global free_count
        if self.size == BLOCK and free_count < MAX_FREE:
            free_blocks[free_count] = self.at
            free_count += 1
        else:
            PyMem_Free(self.at)


cdef Memory take_memory(Py_ssize_t size):
    """At least `size` bytes."""
    global free_count
    cdef Memory memory = Memory.__new__(Memory)
    if SMALL < size <= BLOCK:
        size = BLOCK
        if free_count:
            free_count -= 1
            memory.at = free_blocks[free_count]
            memory.size = size
            return memory
    memory.at = <char *>PyMem_Malloc(size)
    if memory.at == NULL:
        raise MemoryError
    memory.size = size
    return memory


cdef int *scratch = NULL
cdef Py_ssize_t scratch_size = 0


cdef int *take_scratch(Py_ssize_t numbers) except NULL:
    """Room for `numbers` integers, which is valid until the next call."""
    global scratch, scratch_size
    cdef int *more
    if scratch == NULL or numbers > scratch_size:
        more = <int *>PyMem_Realloc(scratch, (numbers + 1) * sizeof(int))
        if more == NULL:
            raise MemoryError
        scratch = more
        scratch_size = numbers
    return scratch


@cython.freelist(64)
cdef class KeyList:

    # _text     contains the keys, each at the offset in its span; in the memory _home, which the parts of a partition share
    # _spans    one for each key; in _memory, which the parts of a partition share

    def __init__(self, keys=()):
        cdef bytes key
        cdef Py_ssize_t size = 0
        for key in keys:
            size += PyBytes_GET_SIZE(key)
        self._make_room(len(keys), size)
        self._count = 0
        size = 0
        for key in keys:
            memcpy(self._text + size, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
            self._spans[self._count] = Span(<int>size, <int>PyBytes_GET_SIZE(key), 0)
            self._count += 1
            size += PyBytes_GET_SIZE(key)

    cdef int _make_room(self, Py_ssize_t spans, Py_ssize_t text) except -1:
        """Allocate memory for `spans` spans and `text` bytes of text."""
        cdef Memory memory = take_memory(spans * <Py_ssize_t>sizeof(Span) + text + MOVED_AT_ONCE)
        self._spans = <Span *>memory.at
        self._text = memory.at + spans * sizeof(Span)
        self._memory = self._home = memory
        return 0

    cdef int _more_room(self, Py_ssize_t spans) except -1:
        """Move the spans to memory for `spans` of them; the text stays where it is."""
        cdef Memory memory = take_memory(spans * <Py_ssize_t>sizeof(Span))
        memcpy(memory.at, self._spans, self._count * sizeof(Span))
        self._spans = <Span *>memory.at
        self._memory = memory
        return 0

    def __len__(self):
        return self._count

    def __getitem__(self, Py_ssize_t index):
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError("index out of range")
        return PyBytes_FromStringAndSize(self._text + self._spans[index].start, self._spans[index].length)

    def __eq__(self, other):
        return list(self) == list(other)

    def __repr__(self):
        return repr(list(self))

    cpdef bytes command_line(self, bytes prefix):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix) + self._count + 1, number
        cdef const char *key
        cdef bytes line
        cdef char *to
        cdef char *last
        cdef Py_ssize_t length
        for number in range(self._count):
            size += self._spans[number].length
        line = PyBytes_FromStringAndSize(NULL, size)
        to = PyBytes_AS_STRING(line)
        last = to + size - MOVED_AT_ONCE
        memcpy(to, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        to += PyBytes_GET_SIZE(prefix)
        for number in range(self._count):
            key = self._text + self._spans[number].start
            length = self._spans[number].length
            if length <= MOVED_AT_ONCE and to <= last:
                memcpy(to, key, MOVED_AT_ONCE)  # one instruction; the superfluous bytes are overwritten by the next key
            else:
                memcpy(to, key, length)
            to += length
            to[0] = c" "
            to += 1
        to[-1] = c"\r"  # in the place of the last blank
        to[0] = c"\n"
        return line

    cpdef KeyPartition partition(self, Locator locator, Py_ssize_t servers):
        cdef KeyPartition partition = _new_partition(self, [])
        cdef int *sizes = take_scratch(2 * servers)  # index of a group -> number of its keys
        cdef int *groups = sizes + servers           # index of a server -> index of its group
        cdef int *order = partition._order
        cdef Span *spans = self._spans
        cdef const unsigned char *text = <const unsigned char *>self._text
        cdef Py_ssize_t number, owner
        cdef int group, count = 0
        memset(groups, -1, servers * sizeof(int))
        for number in range(self._count):
            owner = locator.locate_in(text + spans[number].start, spans[number].length)
            group = groups[owner]
            if group < 0:
                group = groups[owner] = count
                sizes[group] = 0
                count += 1
                partition.owners.append(owner)
            sizes[group] += 1
            order[number] = group
        partition._make_parts(self, sizes, count)
        return partition

    # -- the values in the reply

    cpdef clear_values(self):
        cdef Py_ssize_t number
        for number in range(self._count):
            self._spans[number].end = 0
        self.next = self.values = self._end = 0

    cpdef bint match_next(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t stop) noexcept:
        cdef const char *text = self._text
        cdef Py_ssize_t at = self.next
        cdef Span span
        while at < self._count:
            span = self._spans[at]
            at += 1
            if span.length == stop - start and memcmp(text + span.start, stream._text + start, span.length) == 0:
                self.next = at
                return True
        return False

    cpdef record_value(self, Py_ssize_t end):
        if not 0 < self.next <= self._count:
            raise IndexError("no key has matched")
        self._spans[self.next - 1].end = self._end = end
        self.values += 1

    cpdef Py_ssize_t record_whole_values(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t before) noexcept:
        cdef const char *keys = self._text
        cdef const char *text = stream._text
        cdef Py_ssize_t number = self.next, at, end = stream.end
        cdef Span span
        while number < self._count:
            span = self._spans[number]
            at = start + LABEL_SIZE + span.length
            if at >= end or memcmp(text + start, <const char *>b"VALUE ", LABEL_SIZE) != 0:
                return start
            if text[at] != c" " or memcmp(text + start + LABEL_SIZE, keys + span.start, span.length) != 0:
                number += 1  # the server lacks this key
                continue
            if not header.parse_after_key(<const unsigned char *>text, at, end) or header.end > end:
                return start
            at = header.end
            if text[at - 2] != c"\r" or text[at - 1] != c"\n":
                return start
            start = at
            self._spans[number].end = self._end = before + start
            self.values += 1
            number += 1
            self.next = number
        return start


cdef class KeyListParser:

    cpdef KeyList parse_keys(self, RecvBuffer stream, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t longest):
        cdef KeyList keys = KeyList.__new__(KeyList)
        cdef Py_ssize_t at = 0, size = max(min(stop, stream.end) - start, <Py_ssize_t>0), first, room = size // USUAL_KEY + 1
        cdef const char *text
        keys._make_room(room, size)
        memcpy(keys._text, stream._text + start, size)
        text = keys._text
        while at < size:
            first = at
            while at < size and text[at] != c" ":
                at += 1
            if at - first > longest:
                return None
            if at > first:
                if keys._count == room:
                    room *= 2
                    keys._more_room(room)
                keys._spans[keys._count] = Span(<int>first, <int>(at - first), 0)
                keys._count += 1
            at += 1
        return keys


KEY_LIST_PARSER = KeyListParser()


@cython.freelist(16)
cdef class KeyPartition:

    # _memory   contains the spans of all parts, one part after the other, and _order: the index of the group of each key

    def __init__(self, KeyList keys not None, list order not None, list owners not None):
        cdef Py_ssize_t number
        cdef int *sizes = take_scratch(len(owners))
        self._begin(keys, owners)
        memset(sizes, 0, len(owners) * sizeof(int))
        for number in range(self._count):
            self._order[number] = order[number]
            sizes[self._order[number]] += 1
        self._make_parts(keys, sizes, <int>len(owners))

    cdef int _begin(self, KeyList keys, list owners) except -1:
        self._count = keys._count
        self._memory = take_memory(self._count * <Py_ssize_t>(sizeof(Span) + sizeof(int)))
        self._order = <int *>(self._memory.at + self._count * sizeof(Span))
        self.parts = []
        self.owners = owners
        return 0

    cdef int _make_parts(self, KeyList keys, int *sizes, int groups) except -1:
        """Make the parts of `keys` by _order. `sizes`: the number of keys of each group; its contents are changed."""
        cdef Span *spans = <Span *>self._memory.at
        cdef int *order = self._order
        cdef int number, group, begin = 0
        cdef KeyList part
        for group in range(groups):
            part = KeyList.__new__(KeyList)
            part._text = keys._text
            part._home = keys._home
            part._memory = self._memory
            part._spans = spans + begin
            part._count = sizes[group]
            self.parts.append(part)
            sizes[group] = begin  # from now on the index of its next span
            begin += <int>part._count
        for number in range(<int>self._count):
            group = order[number]
            spans[sizes[group]] = keys._spans[number]
            sizes[group] += 1
        return 0

    cpdef bytes merge_replies(self, list requests):
        cdef Py_ssize_t number, size = 0
        cdef Source *sources = <Source *>PyMem_Malloc(max(len(requests), 1) * sizeof(Source))
        cdef Request request
        cdef KeyList part
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


cdef KeyPartition _new_partition(KeyList keys, list owners):
    cdef KeyPartition partition = KeyPartition.__new__(KeyPartition)
    partition._begin(keys, owners)
    return partition


cdef struct Source:
    const char *reply
    Span *next         # its first key that has not been passed
    Py_ssize_t copied  # number of bytes that have been copied


cdef bytes _merge(int *order, Py_ssize_t keys, Source *sources, Py_ssize_t size):
    """The reply with the values in `sources`, which have `size` bytes together, in the order of `keys` keys."""
    cdef bytes reply = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(END))
    cdef char *to = PyBytes_AS_STRING(reply)
    cdef Source *source
    cdef Py_ssize_t number, end
    for number in range(keys):
        source = sources + order[number]
        end = source.next.end
        source.next += 1
        if end > source.copied:
            memcpy(to, source.reply + source.copied, end - source.copied)
            to += end - source.copied
            source.copied = end
    memcpy(to, PyBytes_AS_STRING(END), PyBytes_GET_SIZE(END))
    return reply


cdef enum:
    USUAL_KEY = 8         # bytes, including a blank: if keys are shorter, room for more spans must be made
    MOVED_AT_ONCE = 16    # bytes
    LABEL_SIZE = 6        # of "VALUE "

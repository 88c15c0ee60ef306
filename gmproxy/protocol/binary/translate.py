"""A request as a server of the binary protocol is asked it, and its answer in the words of a server of the text protocol.

    get, gets, gat, gats    one packet; for several keys quiet ones, of which only hits are answered, and a noop that ends them
    any other command       one packet; a meta command as far as its flags can be said in one
    what no packet can say  a noop: when it is answered, it is this client's turn, and he gets an error line

So a request has the same answers, byte for byte, whatever its server speaks. No server is told to be quiet about a change.
"""

from gmproxy.errors import LOGIN, PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary.packets import (
    COUNT_EXTRAS,
    EXISTS,
    LONG_NUMBER,
    NO_INITIAL,
    NOT_A_NUMBER,
    NOT_FOUND,
    NOT_STORED,
    NUMBER,
    OK,
    OUT_OF_MEMORY,
    REFUSED,
    STORE_EXTRAS,
    TOO_LARGE,
)
from gmproxy.protocol.numbers import as_int32, c_number
from gmproxy.protocol.text.meta import BAD_FLAG
from gmproxy.protocol.text.meta import INVALID as INVALID_FLAG
from gmproxy.protocol.text.requests import BAD_DELTA, BAD_EXPTIME
from gmproxy.protocol.text.requests import TOO_LARGE as TOO_LARGE_LINE
from gmproxy.protocol.text.responses import REPLY_TOO_LARGE
from gmproxy.protocol.value_blocks import END

CRLF = b"\r\n"

#: The number in a packet has 32 bits.
NUMBERS = 2**32

#: Text has dates that were over before memcached began, binary has not: this one has the same effect.
LONG_AGO = 30 * 86400 + 1

#: In text a cas of 0 fits no item, in binary it is none at all: this one no item ever gets.
UNMATCHED_CAS = 2**64 - 1

OPCODES = {
    b"get": packets.GET, b"gets": packets.GET, b"gat": packets.GAT, b"gats": packets.GAT,
    b"set": packets.SET, b"cas": packets.SET, b"add": packets.ADD, b"replace": packets.REPLACE,
    b"append": packets.APPEND, b"prepend": packets.PREPEND, b"incr": packets.INCREMENT, b"decr": packets.DECREMENT,
}
QUIET = {packets.GET: packets.GETQ, packets.GAT: packets.GATQ}

#: The M of a meta command: opcode.
STORE_MODES = {
    b"": packets.SET, b"S": packets.SET, b"E": packets.ADD, b"R": packets.REPLACE, b"A": packets.APPEND, b"P": packets.PREPEND,
}
COUNT_MODES = {
    b"": packets.INCREMENT, b"I": packets.INCREMENT, b"+": packets.INCREMENT, b"D": packets.DECREMENT, b"-": packets.DECREMENT,
}

#: What memcached 1.6.18 knows of flags: those that have no counterpart, and those that are told in an answer.
UNSAYABLE = {b"mg": b"hltNR", b"ms": b"I", b"md": b"I", b"ma": b"tT"}
TOLD = {b"mg": b"kOcfs", b"ms": b"kOc", b"md": b"kO", b"ma": b"kOc"}
KNOWN = b"bNTRlOPLkstcfvhuqFCMJDI"

#: What is not a failure, in the words of both protocols.
DONE = {packets.DELETE: b"DELETED\r\n", packets.TOUCH: b"TOUCHED\r\n", packets.FLUSH: b"OK\r\n"}
REFUSALS = {NOT_STORED: b"NOT_STORED\r\n", EXISTS: b"EXISTS\r\n", NOT_FOUND: b"NOT_FOUND\r\n"}
META_CODES = {NOT_STORED: b"NS", EXISTS: b"EX", NOT_FOUND: b"NF"}

#: What binary servers say where text servers say NOT_STORED.
NOT_STORED_BY = {(packets.ADD, EXISTS), (packets.REPLACE, NOT_FOUND), (packets.APPEND, NOT_FOUND), (packets.PREPEND, NOT_FOUND)}

STORES = (packets.SET, packets.ADD, packets.REPLACE, packets.APPEND, packets.PREPEND)

#: Bytes of a server's own words for a failure.
MAX_WORDS = 200


class UnsupportedInBinary(Exception):
    """No packet can say this. `line` is what the client gets."""

    def __init__(self, line):
        super().__init__(line)
        self.line = line


class PendingReply:
    """What one request became, and what is known of its answer. What a class derives from this in the compiled build stands in its
    .pxd.

    opcode   of its packets, or of the first
    first    the number in the first; they count on from there
    count    of its packets
    found    values in the answer
    """

    __slots__ = ()

    def take(self, place, status, cas, flags, value):
        """The packet number `first + place` is answered. Returns the whole reply to the request, or None if more is to come. Raises
        BackendError."""
        raise NotImplementedError


class Values(PendingReply):
    """get, gets, gat, gats."""

    __slots__ = ("opcode", "first", "count", "values_found", "_request", "_tells_cas", "_next", "_blocks", "_kept", "_error")

    def __init__(self, request, opcode, first):
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0
        self._request = request
        self._tells_cas = request.command.name.endswith(b"s")
        self._next = 0     # the first packet that may still be answered: they are in the order asked
        self._blocks = []
        self._kept = 0     # bytes in them
        self._error = None
        if request.keys is not None:
            self.count += len(request.keys)
            request.keys.forget_values()

    def in_packets(self, extras):
        request = self._request
        if request.keys is None:
            return packets.request(self.opcode, request.key, extras, opaque=self.first)
        opcode = QUIET[self.opcode]
        said = [packets.request(opcode, key, extras, opaque=(self.first + place) % NUMBERS) for place, key in enumerate(request.keys)]
        said.append(packets.request(packets.NOOP, opaque=(self.first + len(request.keys)) % NUMBERS))
        return b"".join(said)

    def take(self, place, status, cas, flags, value):
        if place < self._next:
            raise BackendError(PROTOCOL, "an answer that had come before")
        self._next = place + 1
        keys = self._request.keys
        ends = self._next == self.count
        if keys is None or not ends:
            if status == OK:
                self._add(place, self._request.key if keys is None else keys[place], cas, flags, value)
            elif status != NOT_FOUND and self._error is None:
                self._error = error_line(self.opcode, status, value)
        return self._whole() if ends else None

    def _add(self, place, key, cas, flags, value):
        self.values_found += 1
        number = b" %d" % cas if self._tells_cas else b""
        block = b"VALUE %b %d %d%b\r\n%b\r\n" % (key, flags, len(value), number, value)
        self._kept += len(block)
        if self._kept > limits.MAX_REPLY:
            self._blocks.clear()
            self._error = REPLY_TOO_LARGE
            return
        self._blocks.append(block)
        keys = self._request.keys
        if keys is not None:
            keys.next = place + 1
            keys.note(self._kept)

    def _whole(self):
        if self._error is not None:  # takes the place of all values, as in text
            self.values_found = 0
            return self._error
        self._request.has_value_offsets = True
        self._blocks.append(END)
        return b"".join(self._blocks)


class Line(PendingReply):
    """A classic command that is answered with one line."""

    __slots__ = ("opcode", "first", "count", "values_found")

    def __init__(self, opcode, first):
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0

    def take(self, place, status, cas, flags, value):
        opcode = self.opcode
        if status == OK:
            if opcode == packets.INCREMENT or opcode == packets.DECREMENT:
                return b"%d\r\n" % count_of(value)
            return DONE.get(opcode, b"STORED\r\n")
        return REFUSALS.get(status_in_text(opcode, status)) or error_line(opcode, status, value)


class Meta(PendingReply):
    """A meta command. The flags of its answer are those asked for, in that order."""

    __slots__ = ("opcode", "first", "count", "values_found", "_name", "_word", "_flags", "_arguments")

    def __init__(self, opcode, first, name, word, flags, arguments):
        self.opcode = opcode
        self.first = first
        self.count = 1
        self.values_found = 0
        self._name = name
        self._word = word        # the key as it stands in the line
        self._flags = flags
        self._arguments = arguments

    def take(self, place, status, cas, flags, value):
        if status == OK:
            self.values_found = 1
            return self._hit(cas, flags, b"%d" % count_of(value) if self._name == b"ma" else value)
        status = status_in_text(self.opcode, status)
        if status not in META_CODES:
            return error_line(self.opcode, status, value)
        if self._name == b"mg":
            return b"EN\r\n"  # the client's edge says the rest
        return b"%b%b\r\n" % (META_CODES[status], self._told(b"kO" if self._name == b"ma" else TOLD[self._name], 0, 0, 0))

    def _hit(self, cas, flags, value):
        told = self._told(TOLD[self._name], cas, flags, len(value))
        if b"v" in self._arguments and self._name in (b"mg", b"ma"):
            return b"VA %d%b\r\n%b\r\n" % (len(value), told, value)
        return b"HD%b\r\n" % told

    def _told(self, letters, cas, flags, size):
        told = b""
        for flag in self._flags:
            letter = flag[:1]
            if letter not in letters:
                continue
            if letter == b"c":
                told += b" c%d" % cas
            elif letter == b"f":
                told += b" f%d" % flags
            elif letter == b"s":
                told += b" s%d" % size
            elif letter == b"O":
                told += b" " + flag
            else:
                told += b" k%b b" % self._word if b"b" in self._arguments else b" k" + self._word
        return told


class Unsupported(PendingReply):
    """What cannot be asked."""

    __slots__ = ("opcode", "first", "count", "values_found", "_line")

    def __init__(self, first, line):
        self.opcode = packets.NOOP
        self.first = first
        self.count = 1
        self.values_found = 0
        self._line = line

    def take(self, place, status, cas, flags, value):
        return self._line


def ask(request, first):
    """(PendingReply, packets) for `request`; `first` is the number in the first packet."""
    try:
        if request.command.returns_values:
            return _values(request, first)
        end = request.line.index(CRLF)
        words = request.line[:end].split(b" ")
        if request.command.is_meta:
            return _meta_command(request, first, words, request.line[end + 2:-2])
        opcode, extras, cas = _CLASSIC[request.command.kind](words)
        said = packets.request(opcode, request.key, extras, request.line[end + 2:-2], first, cas)
        return Line(opcode, first), said
    except UnsupportedInBinary as refusal:
        return Unsupported(first, refusal.line), packets.request(packets.NOOP, opaque=first)


def _values(request, first):
    opcode = OPCODES[request.command.name]
    question = Values(request, opcode, first)
    return question, question.in_packets(_until(request.line.split(b" ", 2)[1]) if opcode == packets.GAT else b"")


# -- classic commands: the opcode, extras and cas of the packet, of the words of the line


def _store(words):
    name = words[0]
    if name == b"append" or name == b"prepend":
        return OPCODES[name], b"", 0
    cas = int(words[5]) or UNMATCHED_CAS if name == b"cas" else 0
    return OPCODES[name], STORE_EXTRAS.pack(int(words[2]), _seconds(words[3])), cas


def _count(words):
    delta = c_number(words[2], 0, 2**64 - 1)
    if delta is None:
        raise UnsupportedInBinary(BAD_DELTA)
    return OPCODES[words[0]], COUNT_EXTRAS.pack(delta, 0, NO_INITIAL), 0


def _touch(words):
    return packets.TOUCH, _until(words[2]), 0


def _delete(words):
    return packets.DELETE, b"", 0


def _flush(words):
    delay = int(words[1]) if len(words) > 1 else 0
    return packets.FLUSH, NUMBER.pack(delay) if delay > 0 else b"", 0


_CLASSIC = {"store": _store, "count": _count, "touch": _touch, "delete": _delete, "flush": _flush}


# -- meta commands: the same, of the arguments of the flags


def _meta_command(request, first, words, value):
    name = words[0]
    if name not in TOLD:
        raise UnsupportedInBinary(b"CLIENT_ERROR the server speaks binary, which has no %b\r\n" % name)
    flags = words[3:] if name == b"ms" else words[2:]
    arguments = {}
    for flag in flags:
        letter = flag[:1]
        if letter not in KNOWN:
            raise UnsupportedInBinary(BAD_FLAG if name == b"ma" else INVALID_FLAG)
        if letter in UNSAYABLE[name]:
            raise _no_flag(name, letter)
        arguments[letter] = flag[1:]
    opcode, extras, cas = _META[name](arguments)
    said = packets.request(opcode, request.key, extras, value, first, cas)
    return Meta(opcode, first, name, words[1], flags, arguments), said


def _no_flag(name, letter):
    return UnsupportedInBinary(b"CLIENT_ERROR the server speaks binary, which has no flag %b of %b\r\n" % (letter, name))


def _meta_get(arguments):
    if b"T" not in arguments:
        return packets.GET, b"", 0
    tells_value = b"v" in arguments or b"s" in arguments
    return packets.GAT if tells_value else packets.TOUCH, _until(arguments[b"T"]), 0


def _meta_set(arguments):
    opcode = STORE_MODES[arguments.get(b"M", b"")]
    cas = _number(arguments, b"C", 0)
    if opcode == packets.APPEND or opcode == packets.PREPEND:
        if b"N" in arguments:
            raise _no_flag(b"ms", b"N")
        return opcode, b"", cas
    if opcode == packets.ADD:
        cas = 0
    elif b"C" in arguments:  # then it matters no more whether it is a replace
        opcode = packets.SET
        cas = cas or UNMATCHED_CAS
    flags = _number(arguments, b"F", 0) % 2**32
    return opcode, STORE_EXTRAS.pack(flags, _seconds(arguments.get(b"T", b"0"))), cas


def _meta_delete(arguments):
    return packets.DELETE, b"", _number(arguments, b"C", 0) or UNMATCHED_CAS if b"C" in arguments else 0


def _meta_count(arguments):
    opcode = COUNT_MODES[arguments.get(b"M", b"")]
    exptime = _seconds(arguments[b"N"]) if b"N" in arguments else NO_INITIAL
    extras = COUNT_EXTRAS.pack(_number(arguments, b"D", 1), _number(arguments, b"J", 0), exptime)
    return opcode, extras, _number(arguments, b"C", 0)


_META = {b"mg": _meta_get, b"ms": _meta_set, b"md": _meta_delete, b"ma": _meta_count}


# -- numbers


def _number(arguments, letter, default):
    """That of a flag, which its parser has looked at."""
    return c_number(arguments[letter], 0, 2**64 - 1) if letter in arguments else default


def _seconds(word):
    """An exptime as binary has it. Raises UnsupportedInBinary if the word is no number."""
    exptime = c_number(word, -2**63, 2**63 - 1)
    if exptime is None:
        raise UnsupportedInBinary(BAD_EXPTIME)
    exptime = as_int32(exptime)
    return exptime if exptime >= 0 else LONG_AGO


def _until(word):
    return NUMBER.pack(_seconds(word))


# -- answers


def count_of(value):
    """The number that an incr or decr came to. Raises BackendError."""
    if len(value) != LONG_NUMBER.size:
        raise BackendError(PROTOCOL, f"a count that is no number: {value[:60]!r}")
    return LONG_NUMBER.unpack(value)[0]


def status_in_text(opcode, status):
    """What a server of the text protocol would find."""
    return NOT_STORED if (opcode, status) in NOT_STORED_BY else status


def error_line(opcode, status, value):
    """The line for a failure. Raises BackendError if the server will not talk to us."""
    if status == REFUSED:
        if opcode == packets.FLUSH:
            return b"CLIENT_ERROR flush_all not allowed\r\n"
        raise BackendError(LOGIN, "the server wants to know who we are")
    if status == TOO_LARGE:
        return TOO_LARGE_LINE
    if status == NOT_A_NUMBER:
        return b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
    if status == OUT_OF_MEMORY and opcode in STORES:
        return b"SERVER_ERROR out of memory storing object\r\n"
    words = b" ".join(value[:MAX_WORDS].split()) or b"status 0x%04x" % status
    return b"SERVER_ERROR %b\r\n" % words

"""A request as packets for a server of the binary protocol.

    get, gets, gat, gats      one packet; for several keys, a quiet one for each, to which the server replies only if it has the key, and a noop
    any other command         one packet
    what no packet can express  a noop: when the server has replied to it, so in the order of requests, the reply is an error line

So the reply to a request (pending_replies.py) is the same in both protocols, byte for byte. Writes are never quiet.
"""

from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary.packets import COUNT_EXTRAS, NO_INITIAL, NUMBER, STORE_EXTRAS
from gmproxy.protocol.binary.pending_replies import RETURNED_FLAGS, PendingLine, PendingMeta, PendingNoop, PendingReply, PendingValues
from gmproxy.protocol.numbers import as_int32, c_number
from gmproxy.protocol.request import Request
from gmproxy.protocol.text.meta import BAD_FLAG
from gmproxy.protocol.text.meta import INVALID as INVALID_FLAG
from gmproxy.protocol.text.requests import BAD_DELTA, BAD_EXPTIME

CRLF = b"\r\n"

#: The number of different opaques.
OPAQUES = 2**32

#: The exptime in place of a negative one, which the binary protocol does not have: a date before the start of any memcached.
LONG_AGO = 30 * 86400 + 1

#: The cas number in place of 0, which no item has in the text protocol, and which means none in the binary protocol: no item has this one.
UNMATCHED_CAS = 2**64 - 1

OPCODES = {
    b"get": packets.GET,
    b"gets": packets.GET,
    b"gat": packets.GAT,
    b"gats": packets.GAT,
    b"set": packets.SET,
    b"cas": packets.SET,
    b"add": packets.ADD,
    b"replace": packets.REPLACE,
    b"append": packets.APPEND,
    b"prepend": packets.PREPEND,
    b"incr": packets.INCREMENT,
    b"decr": packets.DECREMENT,
}

QUIET = {packets.GET: packets.GETQ, packets.GAT: packets.GATQ}

#: The argument of the flag M -> opcode.
STORE_MODES = {
    b"": packets.SET,
    b"S": packets.SET,
    b"E": packets.ADD,
    b"R": packets.REPLACE,
    b"A": packets.APPEND,
    b"P": packets.PREPEND,
}

COUNT_MODES = {
    b"": packets.INCREMENT,
    b"I": packets.INCREMENT,
    b"+": packets.INCREMENT,
    b"D": packets.DECREMENT,
    b"-": packets.DECREMENT,
}

#: Letters of the flags that memcached 1.6.18 knows; name of a command -> letters of those that no packet can express.
KNOWN = b"bNTRlOPLkstcfvhuqFCMJDI"
UNSUPPORTED_FLAGS = {b"mg": b"hltNR", b"ms": b"I", b"md": b"I", b"ma": b"tT"}


class UnsupportedInBinary(Exception):
    """No packet can express the request. `line` is the reply to it."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line)
        self.line = line


def encode_request(request: Request, first: int) -> tuple[PendingReply, bytes]:
    """(PendingReply, packets) for `request`. `first`: the opaque of the first packet. Does not raise for a request that no packet can express."""
    try:
        if request.command.returns_values:
            return _encode_get(request, first)
        end = request.line.index(CRLF)
        words = request.line[:end].split(b" ")
        if request.command.is_meta:
            return _encode_meta(request, first, words, request.line[end + 2 : -2])
        encode_classic = _CLASSIC.get(request.command.kind)
        if encode_classic is None:
            raise _no_command(words[0])
        opcode, extras, cas = encode_classic(words)
        packet = packets.request_packet(opcode, request.key, extras, request.line[end + 2 : -2], first, cas)
        return PendingLine(opcode, first), packet
    except UnsupportedInBinary as unsupported:
        return PendingNoop(first, unsupported.line), packets.request_packet(packets.NOOP, opaque=first)


def _encode_get(request: Request, first: int) -> tuple[PendingReply, bytes]:
    opcode = OPCODES[request.command.name]
    extras = _exptime_extras(request.line.split(b" ", 2)[1]) if opcode == packets.GAT else b""
    pending = PendingValues(request, opcode, first)
    if request.keys is None:
        return pending, packets.request_packet(opcode, request.key, extras, opaque=first)
    quiet = QUIET[opcode]
    encoded = [packets.request_packet(quiet, key, extras, opaque=(first + index) % OPAQUES) for index, key in enumerate(request.keys)]
    encoded.append(packets.request_packet(packets.NOOP, opaque=(first + len(request.keys)) % OPAQUES))
    return pending, b"".join(encoded)


# -- commands other than meta commands: from the words of the line to (opcode, extras, cas)


def _store(words: list[bytes]) -> tuple[int, bytes, int]:
    name = words[0]
    if name == b"append" or name == b"prepend":
        return OPCODES[name], b"", 0
    cas = int(words[5]) or UNMATCHED_CAS if name == b"cas" else 0
    return OPCODES[name], STORE_EXTRAS.pack(int(words[2]), _seconds(words[3])), cas


def _count(words: list[bytes]) -> tuple[int, bytes, int]:
    delta = c_number(words[2], 0, 2**64 - 1)
    if delta is None:
        raise UnsupportedInBinary(BAD_DELTA)
    return OPCODES[words[0]], COUNT_EXTRAS.pack(delta, 0, NO_INITIAL), 0


def _touch(words: list[bytes]) -> tuple[int, bytes, int]:
    return packets.TOUCH, _exptime_extras(words[2]), 0


def _delete(words: list[bytes]) -> tuple[int, bytes, int]:
    return packets.DELETE, b"", 0


def _flush(words: list[bytes]) -> tuple[int, bytes, int]:
    delay = int(words[1]) if len(words) > 1 else 0
    return packets.FLUSH, NUMBER.pack(delay) if delay > 0 else b"", 0


_CLASSIC = {"store": _store, "count": _count, "touch": _touch, "delete": _delete, "flush": _flush}


# -- meta commands: from {letter of a flag: what follows it} to (opcode, extras, cas)


def _encode_meta(request: Request, first: int, words: list[bytes], value: bytes) -> tuple[PendingReply, bytes]:
    name = words[0]
    if name not in RETURNED_FLAGS:
        raise _no_command(name)
    flags = words[3:] if name == b"ms" else words[2:]
    arguments: dict[bytes, bytes] = {}
    for flag in flags:
        letter = flag[:1]
        if letter not in KNOWN:
            raise UnsupportedInBinary(BAD_FLAG if name == b"ma" else INVALID_FLAG)
        if letter in UNSUPPORTED_FLAGS[name]:
            raise _no_flag(name, letter)
        arguments[letter] = flag[1:]
    opcode, extras, cas = _META[name](arguments)
    packet = packets.request_packet(opcode, request.key, extras, value, first, cas)
    return PendingMeta(opcode, first, name, words[1], flags, arguments), packet


def _no_command(name: bytes) -> UnsupportedInBinary:
    return UnsupportedInBinary(b"CLIENT_ERROR the binary protocol of the server does not support %b\r\n" % name)


def _no_flag(name: bytes, letter: bytes) -> UnsupportedInBinary:
    return UnsupportedInBinary(b"CLIENT_ERROR the binary protocol of the server does not support flag %b of %b\r\n" % (letter, name))


def _meta_get(arguments: dict[bytes, bytes]) -> tuple[int, bytes, int]:
    if b"T" not in arguments:
        return packets.GET, b"", 0
    returns_value = b"v" in arguments or b"s" in arguments
    return packets.GAT if returns_value else packets.TOUCH, _exptime_extras(arguments[b"T"]), 0


def _meta_set(arguments: dict[bytes, bytes]) -> tuple[int, bytes, int]:
    opcode = STORE_MODES[arguments.get(b"M", b"")]
    cas = _number(arguments, b"C", 0)
    if opcode == packets.APPEND or opcode == packets.PREPEND:
        if b"N" in arguments:
            raise _no_flag(b"ms", b"N")
        return opcode, b"", cas
    if opcode == packets.ADD:
        cas = 0
    elif b"C" in arguments:  # then a replace is the same as a set
        opcode = packets.SET
        cas = cas or UNMATCHED_CAS
    flags = _number(arguments, b"F", 0) % 2**32
    return opcode, STORE_EXTRAS.pack(flags, _seconds(arguments.get(b"T", b"0"))), cas


def _meta_delete(arguments: dict[bytes, bytes]) -> tuple[int, bytes, int]:
    return packets.DELETE, b"", _number(arguments, b"C", 0) or UNMATCHED_CAS if b"C" in arguments else 0


def _meta_count(arguments: dict[bytes, bytes]) -> tuple[int, bytes, int]:
    opcode = COUNT_MODES[arguments.get(b"M", b"")]
    exptime = _seconds(arguments[b"N"]) if b"N" in arguments else NO_INITIAL
    extras = COUNT_EXTRAS.pack(_number(arguments, b"D", 1), _number(arguments, b"J", 0), exptime)
    return opcode, extras, _number(arguments, b"C", 0)


_META = {b"mg": _meta_get, b"ms": _meta_set, b"md": _meta_delete, b"ma": _meta_count}


# -- numbers


def _number(arguments: dict[bytes, bytes], letter: bytes, default: int) -> int:
    """The number of the flag `letter`, which text/meta.py has checked; `default` if there is no such flag."""
    return c_number(arguments[letter], 0, 2**64 - 1) or 0 if letter in arguments else default


def _seconds(word: bytes) -> int:
    """The exptime `word` in the form of the binary protocol, in seconds. Raises UnsupportedInBinary if it is not a number."""
    exptime = c_number(word, -(2**63), 2**63 - 1)
    if exptime is None:
        raise UnsupportedInBinary(BAD_EXPTIME)
    exptime = as_int32(exptime)
    return exptime if exptime >= 0 else LONG_AGO


def _exptime_extras(word: bytes) -> bytes:
    return NUMBER.pack(_seconds(word))

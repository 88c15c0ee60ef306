"""What binary packets ask, by their opcodes, and the answers of servers as packets: what a client of the binary protocol hears.

Servers answer in text: VALUE blocks for a get, a meta command's answer for everything else.
"""

from gmproxy.protocol.binary import packets
from gmproxy.protocol.binary.codec import PACKER
from gmproxy.protocol.binary.packets import (
    EXISTS,
    INTERNAL_ERROR,
    LONG_NUMBER,
    NOT_A_NUMBER,
    NOT_FOUND,
    NOT_STORED,
    NUMBER,
    OK,
    OUT_OF_MEMORY,
    REFUSED,
    RESPONSE,
    TOO_LARGE,
    WORDS,
)
from gmproxy.protocol.request import COMMANDS, ReplyRenderer

VALUE = b"VALUE "
END = b"END\r\n"
CRLF = b"\r\n"

#: How an error line begins: its status. Any other is an internal error, in its own words.
_STATUS_OF_LINE = (
    (b"SERVER_ERROR object too large", TOO_LARGE),
    (b"SERVER_ERROR out of memory", OUT_OF_MEMORY),
    (b"SERVER_ERROR Out of memory", OUT_OF_MEMORY),
    (b"CLIENT_ERROR cannot increment or decrement", NOT_A_NUMBER),
    (b"CLIENT_ERROR flush_all not allowed", REFUSED),
)

_STATUS_OF_META = {b"EN": NOT_FOUND, b"NF": NOT_FOUND, b"EX": EXISTS}


class Operation:
    """What there is to know of an opcode.

    kind      the name of a method of the parser
    verb      of the text protocol, for the commands that the proxy answers itself
    mode      the flags of the meta command that make the difference to others of this kind
    extras    how many bytes of extras it may have
    keyed     True: it has a key; False: it has none; None: as it likes
    valued    True: behind the key comes a value
    reads     True: quiet means that it does not tell a miss; else, that it does not tell success
    tells_key True: the answer has the key
    not_stored  the status for NS
    """

    __slots__ = ("kind", "command", "mode", "extras", "keyed", "valued", "reads", "tells_key", "not_stored", "quiet")

    def __init__(self, kind, quiet=False, mode=b"", extras=(0,), keyed=True, tells_key=False, not_stored=NOT_STORED):
        self.kind = kind
        self.command = COMMANDS.get({"stat": b"stats", "flush": b"flush_all"}.get(kind, kind.encode()))
        self.mode = mode
        self.extras = extras
        self.keyed = keyed
        self.valued = kind in ("store", "extend", "login")
        self.reads = kind in ("get", "touch")
        self.tells_key = tells_key
        self.not_stored = not_stored
        self.quiet = quiet

    def answer(self, opcode, opaque):
        """A new Answer to a packet with this `opcode`. In the compiled build, unlike a call of the class, this is a step in C."""
        answer = Answer.__new__(Answer)
        answer.begin(self, opcode, opaque)
        return answer


OPERATIONS = {
    packets.GET: Operation("get"),
    packets.SET: Operation("store", extras=(8,)),
    packets.ADD: Operation("store", mode=b" ME", extras=(8,), not_stored=EXISTS),
    packets.REPLACE: Operation("store", mode=b" MR", extras=(8,), not_stored=NOT_FOUND),
    packets.DELETE: Operation("delete"),
    packets.INCREMENT: Operation("count", mode=b" MI", extras=(20,)),
    packets.DECREMENT: Operation("count", mode=b" MD", extras=(20,)),
    packets.QUIT: Operation("quit", keyed=False),
    packets.FLUSH: Operation("flush", extras=(0, 4), keyed=False),
    packets.GETQ: Operation("get", quiet=True),
    packets.NOOP: Operation("noop", keyed=False),
    packets.VERSION: Operation("version", keyed=False),
    packets.GETK: Operation("get", tells_key=True),
    packets.GETKQ: Operation("get", tells_key=True, quiet=True),
    packets.APPEND: Operation("extend", mode=b" MA"),
    packets.PREPEND: Operation("extend", mode=b" MP"),
    packets.STAT: Operation("stat", keyed=None),
    packets.SETQ: Operation("store", extras=(8,), quiet=True),
    packets.ADDQ: Operation("store", mode=b" ME", extras=(8,), not_stored=EXISTS, quiet=True),
    packets.REPLACEQ: Operation("store", mode=b" MR", extras=(8,), not_stored=NOT_FOUND, quiet=True),
    packets.DELETEQ: Operation("delete", quiet=True),
    packets.INCREMENTQ: Operation("count", mode=b" MI", extras=(20,), quiet=True),
    packets.DECREMENTQ: Operation("count", mode=b" MD", extras=(20,), quiet=True),
    packets.QUITQ: Operation("quit", keyed=False, quiet=True),
    packets.FLUSHQ: Operation("flush", extras=(0, 4), keyed=False, quiet=True),
    packets.APPENDQ: Operation("extend", mode=b" MA", quiet=True),
    packets.PREPENDQ: Operation("extend", mode=b" MP", quiet=True),
    packets.VERBOSITY: Operation("verbosity", extras=(4,), keyed=False),
    packets.TOUCH: Operation("touch", extras=(4,)),
    packets.GAT: Operation("touch", mode=b" v", extras=(4,)),
    packets.GATQ: Operation("touch", mode=b" v", extras=(4,), quiet=True),
    packets.SASL_MECHANISMS: Operation("mechanisms", keyed=False),
    packets.SASL_AUTH: Operation("login", mode=b"auth"),
    packets.SASL_STEP: Operation("login", mode=b"step"),
    packets.GATK: Operation("touch", mode=b" v", extras=(4,), tells_key=True),
    packets.GATKQ: Operation("touch", mode=b" v", extras=(4,), tells_key=True, quiet=True),
}

#: Whatever has any other opcode.
UNKNOWN = Operation("")


class Answer(ReplyRenderer):
    """Renders the answer to one packet."""

    __slots__ = ("operation", "opcode", "opaque")

    def begin(self, operation, opcode, opaque):
        self.operation = operation
        self.opcode = opcode
        self.opaque = opaque

    def render(self, request):
        reply = request.reply
        if reply.startswith(VALUE):
            return self.of_value(reply, 0, len(reply) - len(END), request.key)
        kind = self.operation.kind
        if kind == "stat":
            return self._stats(reply)
        if kind == "version":
            return self.packet(value=reply[len(b"VERSION "):-2])
        return self.of_line(reply, request.key)

    def of_value(self, reply, start, end, key):
        """The packet for the VALUE block reply[start:end]."""
        return PACKER.item(self.opcode, self.opaque, reply, start, end, key if self.operation.tells_key else b"")

    def of_line(self, reply, key):
        """The packet for the `reply` of a server about `key`, which has no value."""
        code = reply[:2]
        if code == b"VA" or code == b"HD":
            return self._of_meta(reply, key)
        if code == b"OK" or not reply:
            return b"" if self.operation.quiet else self.packet()
        if code == b"NS":
            return self.refusal(self.operation.not_stored)
        status = NOT_FOUND if reply == END else _STATUS_OF_META.get(code, OK)
        if status == NOT_FOUND and self.operation.reads:
            return self.miss(key)
        return self.refusal(status) if status else self._of_error(reply)

    def _of_meta(self, reply, key):
        operation = self.operation
        if operation.quiet and not operation.reads:
            return b""
        header_end = reply.index(CRLF)
        flags = cas = 0
        for word in reply[:header_end].split(b" "):
            if word[:1] == b"c":
                cas = _number(word[1:])
            elif word[:1] == b"f":
                flags = _number(word[1:])
        value = reply[header_end + 2:-2]
        if operation.kind == "count":
            return self.packet(OK, cas, b"", b"", LONG_NUMBER.pack(_number(value) % 2**64))
        if operation.reads:
            return self.packet(OK, cas, NUMBER.pack(flags % 2**32), key if operation.tells_key else b"", value)
        return self.packet(OK, cas)

    def miss(self, key):
        if self.operation.quiet:
            return b""
        return self.packet(NOT_FOUND, 0, b"", key) if self.operation.tells_key else self.refusal(NOT_FOUND)

    def _of_error(self, line):
        for beginning, status in _STATUS_OF_LINE:
            if line.startswith(beginning):
                return self.refusal(status)
        return self.packet(INTERNAL_ERROR, value=line.rstrip().removeprefix(b"SERVER_ERROR "))

    def _stats(self, reply):
        if not reply.endswith((END, b"RESET\r\n")):
            return self.refusal(NOT_FOUND)
        told = []
        for line in reply.split(CRLF)[:-2]:
            name, _, value = line.removeprefix(b"STAT ").partition(b" ")
            told.append(self.packet(key=name, value=value))
        told.append(self.packet())
        return b"".join(told)

    def refusal(self, status):
        return self.packet(status, 0, b"", b"", WORDS[status])

    def packet(self, status=OK, cas=0, extras=b"", key=b"", value=b""):
        return PACKER.packet(RESPONSE, self.opcode, status, self.opaque, cas % 2**64, extras, key, value)


class AnswersInOrder(ReplyRenderer):
    """Renders the values of one gets as the answers to the packets that asked for its keys."""

    __slots__ = ("answers",)

    def __init__(self, answers):
        self.answers = answers

    def render(self, request):
        reply = request.reply
        told = []
        pos = 0
        if not reply.endswith(END):
            return b"".join([answer.of_line(reply, key) for answer, key in zip(self.answers, request.keys)])
        for answer, key in zip(self.answers, request.keys):
            key_end = pos + 6 + len(key)
            if reply.startswith(VALUE, pos) and reply.startswith(key, pos + 6) and reply.startswith(b" ", key_end):
                header_end = reply.index(CRLF, key_end)
                length = int(reply[key_end:header_end].split(b" ")[2])
                end = header_end + 2 + length + 2
                told.append(answer.of_value(reply, pos, end, key))
                pos = end
            else:
                told.append(answer.miss(key))
        return b"".join(told)


def _number(word):
    """What a server says may have too many digits to be true, or none, but must not stop us."""
    digits = word[:20].strip()
    return int(digits) if digits.isdigit() else 0

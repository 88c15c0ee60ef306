"""The binary protocol as a client speaks it: packets in, requests out, and their answers as packets again.

    get              gets KEY; a run of quiet gets that arrived together is one gets of all their keys
    everything else  a meta command: mg, ms, md, ma, which tell the item's number and take keys that are not text

No server is told to be quiet: what a quiet command does not say is kept back in `Answer.render`. What is refused, and which refusal
closes the connection, is as in memcached 1.6.18, but that an unknown command with a body does not lose the step.
"""

from gmproxy.accel import pick
from gmproxy.protocol import limits, packets
from gmproxy.protocol.packets import (
    COUNT_EXTRAS, EXISTS, GO_ON, HEADER_SIZE, INTERNAL_ERROR, INVALID, LONG_NUMBER, NO_INITIAL, NOT_A_NUMBER, NOT_FOUND, NOT_STORED,
    NUMBER, OK, OUT_OF_MEMORY, PLAIN, REFUSED, REQUEST, RESPONSE, STORE_EXTRAS, TOO_LARGE, UNKNOWN_COMMAND, WORDS,
)

_message = pick("message")
local_reply = _message.local_reply
EndOfTalk = _message.EndOfTalk
VERBS = _message.VERBS
META_GET, META_TOUCH = _message.META_GET, _message.META_TOUCH
META_SET, META_SET_IF, META_EXTEND = _message.META_SET, _message.META_SET_IF, _message.META_EXTEND
META_DELETE, META_DELETE_IF = _message.META_DELETE, _message.META_DELETE_IF
META_COUNT, META_COUNT_IF = _message.META_COUNT, _message.META_COUNT_IF
_meta = pick("meta")
is_text = _meta.is_text
encoded = _meta.encoded
_packing = pick("packing")
new_header = _packing.Header
PACKER = _packing.PACKER
new_keys = pick("retrieval").Keys
new_stream = pick("stream").Stream

GETS = VERBS[b"gets"]
VALUE = b"VALUE "
END = b"END\r\n"
CRLF = b"\r\n"

MAX_KEY = limits.MAX_KEY

#: The text protocol's numbers are signed: the last second it knows, in 2038, stands for all later ones.
MAX_EXPTIME = 2**31 - 1

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

    __slots__ = ("kind", "verb", "mode", "extras", "keyed", "valued", "reads", "tells_key", "not_stored", "quiet")

    def __init__(self, kind, quiet=False, mode=b"", extras=(0,), keyed=True, tells_key=False, not_stored=NOT_STORED):
        self.kind = kind
        self.verb = VERBS.get({"stat": b"stats", "flush": b"flush_all"}.get(kind, kind.encode()))
        self.mode = mode
        self.extras = extras
        self.keyed = keyed
        self.valued = kind in ("store", "extend", "login")
        self.reads = kind in ("get", "touch")
        self.tells_key = tells_key
        self.not_stored = not_stored
        self.quiet = quiet


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

#: What there is for clients that must log in, and what else they may ask before they have.
LOGIN = ("mechanisms", "login")
OPEN_TO_ALL = ("mechanisms", "login", "version")


class Unintelligible(EndOfTalk):
    """A packet after which nothing can be trusted. memcached says a last word, or none."""

    def __init__(self, last_words=b""):
        super().__init__()
        self.last_words = last_words


class Answer:
    """Renders the answer to one packet."""

    __slots__ = ("operation", "opcode", "opaque")

    def __init__(self, operation, opcode, opaque):
        self.begin(operation, opcode, opaque)

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


def new_answer(operation, opcode, opaque):
    """An Answer. In the compiled build, unlike a call of the class, this is a step in C."""
    answer = Answer.__new__(Answer)
    answer.begin(operation, opcode, opaque)
    return answer


class AnswersInOrder:
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


class BinaryParser:
    """The requests of one client (a message.Parser). Raises Unintelligible."""

    __slots__ = ("stream", "max_item_size", "users", "is_known", "awaits_step", "skip", "after_skip", "_header")

    def __init__(self, max_item_size, users=None):
        self.stream = new_stream()
        self.max_item_size = max_item_size
        self.users = users
        self.is_known = False     # one of `users`
        self.awaits_step = False  # a mechanism was agreed on, but not a word of it said
        self.skip = 0           # bytes of a refused body still to be thrown away
        self.after_skip = None  # the answer once they are gone
        self._header = new_header()

    def next_request(self):
        stream = self.stream
        if self.skip:
            return self._skip_refused_body()
        if not stream.ready():
            return None
        start = stream.pos
        if stream.end - start < HEADER_SIZE:
            stream.need = HEADER_SIZE
            return None
        header = self._header
        header.read(stream, start)
        if header.magic != REQUEST:
            raise Unintelligible
        key_length = header.key_length
        extras_length = header.extras_length
        body_length = header.body_length
        operation = OPERATIONS.get(header.opcode)
        answer = new_answer(operation, header.opcode, header.opaque)
        rest = body_length - key_length - extras_length
        if rest < 0:
            raise Unintelligible(answer.refusal(UNKNOWN_COMMAND))
        if self.users is not None and not self.is_known and (operation is None or operation.kind not in OPEN_TO_ALL):
            raise Unintelligible(answer.refusal(REFUSED))
        if key_length > MAX_KEY:
            raise Unintelligible(answer.refusal(INVALID))
        if operation is None or (self.users is None and operation.kind in LOGIN):
            return self._refuse_body(answer, UNKNOWN_COMMAND, body_length)
        if extras_length not in operation.extras or operation.keyed is (key_length == 0) or (rest and not operation.valued):
            raise Unintelligible(answer.refusal(INVALID))
        if operation.kind == "login" and rest > limits.MAX_LOGIN:
            return self._refuse_body(answer, INVALID, body_length)
        key_start = start + HEADER_SIZE + extras_length
        if rest > self.max_item_size:
            if stream.end < key_start + key_length:
                stream.need = HEADER_SIZE + extras_length + key_length
                return None
            return self._refuse_large(answer, stream.cut(key_start, key_start + key_length), body_length)
        after = start + HEADER_SIZE + body_length
        if after > stream.end:
            stream.need = HEADER_SIZE + body_length
            return None
        stream.pos = after
        key = stream.cut(key_start, key_start + key_length)
        if operation.kind == "get" and stream.is_text(key_start, key_start + key_length):
            return self._gets(answer, key)
        extras = stream.cut(start + HEADER_SIZE, key_start)
        return getattr(self, "_" + operation.kind)(answer, header.cas, extras, key, stream.cut(key_start + key_length, after))

    # -- bodies that are not taken

    def _refuse_body(self, answer, status, length):
        """Throw the next `length` bytes after a header away and answer `status` after them."""
        self.skip = HEADER_SIZE + length
        self.after_skip = local_reply(answer.refusal(status))
        return self._skip_refused_body()

    def _refuse_large(self, answer, key, length):
        """As memcached: a set that is too large takes the old value with it."""
        self.skip = HEADER_SIZE + length
        self.after_skip = local_reply(answer.refusal(TOO_LARGE))
        operation = answer.operation
        word, flag = _word(key)
        if operation.kind != "store" or operation.mode or len(word) > MAX_KEY:
            return self._skip_refused_body()
        request = META_DELETE.request(key, b"md %b%b\r\n" % (word, flag))
        request.quiet = True
        return request

    def _skip_refused_body(self):
        self.stream.need = 0
        self.skip -= self.stream.drop(self.skip)
        return self.after_skip if self.skip == 0 else None

    # -- retrieval

    def _gets(self, answer, key):
        if answer.operation.quiet:
            answers = [answer]
            keys = [key]
            while len(keys) < limits.MAX_QUIET_GETS and self._take_get(answers, keys):
                pass
            if len(keys) > 1:
                request = GETS.request(key, b"gets ")
                request.keys = new_keys(keys)
                request.edge = AnswersInOrder(answers)
                return request
        request = GETS.request(key, b"gets " + key + CRLF)
        request.edge = answer
        return request

    def _take_get(self, answers, keys):
        """Take the next packet too if it is a get whose answer may come from the same gets. False if no more may follow."""
        stream = self.stream
        start = stream.pos
        if stream.end - start < HEADER_SIZE:
            return False
        header = self._header
        header.read(stream, start)
        operation = OPERATIONS.get(header.opcode)
        if header.magic != REQUEST or operation is None or operation.kind != "get":
            return False
        after = start + HEADER_SIZE + header.key_length
        if header.extras_length or header.body_length != header.key_length or not 1 <= header.key_length <= MAX_KEY or after > stream.end:
            return False
        if not stream.is_text(start + HEADER_SIZE, after):
            return False
        stream.pos = after
        keys.append(stream.cut(start + HEADER_SIZE, after))
        answers.append(new_answer(operation, header.opcode, header.opaque))
        return operation.quiet

    def _get(self, answer, cas, extras, key, value):
        """A key that is not text."""
        return _ask(META_GET, answer, b"mg", key, b"", b" f c v")

    def _touch(self, answer, cas, extras, key, value):
        exptime = _exptime(*NUMBER.unpack(extras))
        return _ask(META_TOUCH, answer, b"mg", key, b"", b" T%d f c%b" % (exptime, answer.operation.mode))

    # -- changes

    def _store(self, answer, cas, extras, key, value):
        flags, exptime = STORE_EXTRAS.unpack(extras)
        mode = answer.operation.mode
        if cas:  # then memcached looks at nothing else
            mode = b" C%d" % cas
        verb = META_SET_IF if mode else META_SET
        told = b"" if answer.operation.quiet else b" c"
        return _ask(verb, answer, b"ms", key, b" %d" % len(value), b"%b T%d F%d%b" % (mode, _exptime(exptime), flags, told), value)

    def _extend(self, answer, cas, extras, key, value):
        verb = META_SET_IF if cas else META_EXTEND
        condition = b" C%d" % cas if cas else b""
        told = b"" if answer.operation.quiet else b" c"
        return _ask(verb, answer, b"ms", key, b" %d" % len(value), answer.operation.mode + condition + told, value)

    def _delete(self, answer, cas, extras, key, value):
        return _ask(META_DELETE_IF if cas else META_DELETE, answer, b"md", key, b"", b" C%d" % cas if cas else b"")

    def _count(self, answer, cas, extras, key, value):
        delta, initial, exptime = COUNT_EXTRAS.unpack(extras)
        flags = b"%b D%d v c" % (answer.operation.mode, delta)
        if exptime != NO_INITIAL:
            flags += b" N%d J%d" % (_exptime(exptime), initial)
        if cas:
            flags += b" C%d" % cas
        return _ask(META_COUNT_IF if cas else META_COUNT, answer, b"ma", key, b"", flags)

    # -- who is it?

    def _mechanisms(self, answer, cas, extras, key, value):
        return local_reply(answer.packet(value=PLAIN))

    def _login(self, answer, cas, extras, key, value):
        """SASL: `auth` names the mechanism and may say all at once; else `step` says it."""
        is_step = answer.operation.mode == b"step"
        may_go_on = key == PLAIN and (self.awaits_step or not is_step)
        self.is_known = self.awaits_step = False
        if may_go_on and not value and not is_step:
            self.awaits_step = True
            return local_reply(answer.packet(GO_ON))
        words = value.split(b"\0")
        if not may_go_on or len(words) != 3 or not self.users.allow(words[1], words[2]):
            return local_reply(answer.refusal(REFUSED))
        self.is_known = True
        return local_reply(answer.packet(value=b"Authenticated"))

    # -- what has no key

    def _flush(self, answer, cas, extras, key, value):
        delay = _exptime(*NUMBER.unpack(extras)) if extras else 0
        return _command(answer, b"flush_all %d\r\n" % delay if delay else b"flush_all\r\n", [])

    def _stat(self, answer, cas, extras, key, value):
        return _command(answer, b"", [word for word in key.split(b" ") if word])

    def _version(self, answer, cas, extras, key, value):
        return _command(answer, b"", [])

    def _quit(self, answer, cas, extras, key, value):
        return _command(answer, b"", [])

    def _noop(self, answer, cas, extras, key, value):
        """Every answer before it leaves before it."""
        return local_reply(answer.packet())

    def _verbosity(self, answer, cas, extras, key, value):
        """Accepted and ignored, as in text."""
        return local_reply(answer.packet())


def _number(word):
    """What a server says may have too many digits to be true, but must not stop us."""
    return int(word[:20])


def _word(key):
    """The key as a meta command has it, and the flag that says so if it had to be encoded."""
    return (key, b"") if is_text(key) else (encoded(key), b" b")


def _exptime(number):
    return min(number, MAX_EXPTIME)


def _command(answer, line, words):
    request = answer.operation.verb.request(b"", line)
    request.keys = words
    request.edge = answer
    return request


def _ask(verb, answer, name, key, length, flags, value=None):
    """The request for the meta command `name`; answered already if the key has no room in it."""
    word, flag = _word(key)
    if len(word) > MAX_KEY:
        return local_reply(answer.refusal(INVALID))
    line = b"%b %b%b%b%b\r\n" % (name, word, length, flag, flags)
    request = verb.request(key, line if value is None else line + value + CRLF)
    request.edge = answer
    return request

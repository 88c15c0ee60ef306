"""The binary protocol as a client speaks it: packets in, requests out. Their answers are in binary_answers.py.

    get              gets KEY; a run of quiet gets that arrived together is one gets of all their keys
    everything else  a meta command: mg, ms, md, ma, which tell the item's number and take keys that are not text

No server is told to be quiet: what a quiet command does not say is kept back in `binary_answers.Answer`. What is refused, and which refusal
closes the connection, is as in memcached 1.6.18, but that an unknown command with a body does not lose the step.
"""

from gmproxy.protocol import limits
from gmproxy.protocol.binary.client_replies import OPERATIONS, UNKNOWN, AnswersInOrder
from gmproxy.protocol.binary.codec import Header
from gmproxy.protocol.binary.packets import (
    COUNT_EXTRAS,
    GO_ON,
    HEADER_SIZE,
    INVALID,
    NO_INITIAL,
    NUMBER,
    PLAIN,
    REFUSED,
    REQUEST,
    STORE_EXTRAS,
    TOO_LARGE,
    UNKNOWN_COMMAND,
)
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import (
    COMMANDS,
    META_COUNT,
    META_COUNT_IF,
    META_DELETE,
    META_DELETE_IF,
    META_EXTEND,
    META_GET,
    META_SET,
    META_SET_IF,
    META_TOUCH,
    WRONG_PASSWORD,
    ClientProtocolError,
    RequestParser,
    local_reply,
)
from gmproxy.protocol.text.meta import encoded, is_text

GETS = COMMANDS[b"gets"]
CRLF = b"\r\n"

MAX_KEY = limits.MAX_KEY

#: The text protocol's numbers are signed: the last second it knows, in 2038, stands for all later ones.
MAX_EXPTIME = 2**31 - 1

#: What there is for clients that must log in, and what else they may ask before they have.
LOGIN = ("mechanisms", "login")
OPEN_TO_ALL = ("mechanisms", "login", "version")


class Unintelligible(ClientProtocolError):
    """A packet after which nothing can be trusted. memcached says a last word, or none."""

    def __init__(self, reply=b""):
        super().__init__()
        self.reply = reply


class BinaryParser(RequestParser):
    """The requests of one client (a message.Parser). Raises Unintelligible."""

    __slots__ = ("stream", "max_item_size", "users", "awaits_step", "skip", "after_skip", "_is_known", "_header")

    def __init__(self, max_item_size, users=None, is_known=False):
        self.stream = RecvBuffer()
        self.max_item_size = max_item_size
        self.users = users
        self._is_known = is_known  # one of `users`
        self.awaits_step = False  # a mechanism was agreed on, but not a word of it said
        self.skip = 0           # bytes of a refused body still to be thrown away
        self.after_skip = None  # the answer once they are gone
        self._header = Header()

    def is_known(self):
        return self.users is None or self._is_known

    def is_at_border(self):
        return self.skip == 0 and not self.awaits_step and self.stream.size() == 0

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
        operation = OPERATIONS.get(header.opcode, UNKNOWN)
        answer = operation.answer(header.opcode, header.opaque)
        rest = body_length - key_length - extras_length
        if rest < 0:
            raise Unintelligible(answer.refusal(UNKNOWN_COMMAND))
        if self.users is not None and not self._is_known and operation.kind not in OPEN_TO_ALL:
            raise Unintelligible(answer.refusal(REFUSED))
        if key_length > MAX_KEY:
            raise Unintelligible(answer.refusal(INVALID))
        if operation is UNKNOWN or (self.users is None and operation.kind in LOGIN):
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
                request.keys = KeyList(keys)
                request.renderer = AnswersInOrder(answers)
                return request
        request = GETS.request(key, b"gets " + key + CRLF)
        request.renderer = answer
        return request

    def _take_get(self, answers, keys):
        """Take the next packet too if it is a get whose answer may come from the same gets. False if no more may follow."""
        stream = self.stream
        start = stream.pos
        if stream.end - start < HEADER_SIZE:
            return False
        header = self._header
        header.read(stream, start)
        operation = OPERATIONS.get(header.opcode, UNKNOWN)
        if header.magic != REQUEST or operation.kind != "get":
            return False
        after = start + HEADER_SIZE + header.key_length
        if header.extras_length or header.body_length != header.key_length or not 1 <= header.key_length <= MAX_KEY or after > stream.end:
            return False
        if not stream.is_text(start + HEADER_SIZE, after):
            return False
        stream.pos = after
        keys.append(stream.cut(start + HEADER_SIZE, after))
        answers.append(operation.answer(header.opcode, header.opaque))
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
        command = META_SET_IF if mode else META_SET
        told = b"" if answer.operation.quiet else b" c"
        return _ask(command, answer, b"ms", key, b" %d" % len(value), b"%b T%d F%d%b" % (mode, _exptime(exptime), flags, told), value)

    def _extend(self, answer, cas, extras, key, value):
        command = META_SET_IF if cas else META_EXTEND
        condition = b" C%d" % cas if cas else b""
        told = b"" if answer.operation.quiet else b" c"
        return _ask(command, answer, b"ms", key, b" %d" % len(value), answer.operation.mode + condition + told, value)

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
        self._is_known = self.awaits_step = False
        if may_go_on and not value and not is_step:
            self.awaits_step = True
            return local_reply(answer.packet(GO_ON))
        words = value.split(b"\0")
        if not may_go_on or len(words) != 3:
            return local_reply(answer.refusal(REFUSED))
        if not self.users.allow(words[1], words[2]):
            return WRONG_PASSWORD.request(b"", answer.refusal(REFUSED))
        self._is_known = True
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


def _word(key):
    """The key as a meta command has it, and the flag that says so if it had to be encoded."""
    return (key, b"") if is_text(key) else (encoded(key), b" b")


def _exptime(number):
    return min(number, MAX_EXPTIME)


def _command(answer, line, words):
    request = answer.operation.command.request(b"", line)
    request.keys = words
    request.renderer = answer
    return request


def _ask(command, answer, name, key, length, flags, value=None):
    """The request for the meta command `name`; answered already if the key has no room in it."""
    word, flag = _word(key)
    if len(word) > MAX_KEY:
        return local_reply(answer.refusal(INVALID))
    line = b"%b %b%b%b%b\r\n" % (name, word, length, flag, flags)
    request = command.request(key, line if value is None else line + value + CRLF)
    request.renderer = answer
    return request

"""What a memcached server answers: bytes in, whole replies out.

A reply is handed on exactly as it came. It is read closely enough to know its end for certain: every data block must be followed by
CRLF, every VALUE must be one of the keys that were asked, in that order, every line one that the command can have. Anything else
means that the stream is not in step, and raises BackendError("protocol"): the link must be closed.
"""

import re

from gmproxy.accel import pick
from gmproxy.errors import OVERLOAD, PROTOCOL, BackendError
from gmproxy.protocol import limits

new_stream = pick("stream").Stream

END = b"END\r\n"
VALUE = b"VALUE "
CRLF = b"\r\n"
COUNT = re.compile(rb"[0-9]{1,20}\r\n")
#: How a server refuses an ms before it has read the data block: it takes that for commands.
BLOCK_NOT_READ = (b"ERROR", b"CLIENT_ERROR bad command line format", b"CLIENT_ERROR options flags")

#: A value of more bytes is received at its final place.
LONG = 4096

BLANK, CARRIAGE_RETURN, LINE_FEED, MINUS, A, z = b" \r\n-Az"
A_FLAG = 1  # as wide as there are letters, in the compiled build

FULL = b"ERROR Too many open connections"
REPLY_TOO_LARGE = b"SERVER_ERROR out of memory writing get response\r\n"


def is_error_line(line):
    """True for memcached's three kinds of error line. A memcached that has no room for another connection also says ERROR,
    to nobody in particular, and closes: raises BackendError("overload")."""
    if line.startswith(FULL):
        raise BackendError(OVERLOAD, "the server has too many connections")
    return line.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"))


def letters_of(line, start):
    """Which letters the flags of a meta command begin with: a bit for each, the lowest for A. They are in the `line` from offset
    `start` on."""
    letters = 0
    byte = 0
    for at in range(start, len(line) - 1):
        before = byte
        byte = line[at]
        if byte == CARRIAGE_RETURN and line[at + 1] == LINE_FEED:
            break
        if before == BLANK and A <= byte <= z:
            letters |= A_FLAG << (byte - A)
    return letters


#: What a server tells unasked: W and Z of the right to recache, X of a stale item; and b of a key in base64.
UNASKED = letters_of(b" W X Z b\r\n", 0)

VALUE_FLAG = letters_of(b" v\r\n", 0)

#: Flags behind which a server tells a number, one that may be negative, one of up to 20 digits, 0 or 1. Behind others may be anything.
NUMBERS, SIGNED_NUMBERS, LONG_NUMBERS, TRUTHS = letters_of(b" f s\r\n", 0), letters_of(b" t l\r\n", 0), letters_of(b" c\r\n", 0), letters_of(b" h\r\n", 0)


class ReplyReader:
    """The replies of a server of the text protocol (a message.Reader).

    `out_of_step` is set by any refusal of a storage command but SERVER_ERROR, before which memcached reads the data block away.
    """

    __slots__ = ("stream", "found", "out_of_step", "_pieces", "_kept")

    def __init__(self):
        self.stream = new_stream()
        self.found = 0
        self.out_of_step = False
        self._pieces = []   # VALUE blocks of a reply whose end has not arrived
        self._kept = 0      # bytes in them

    def is_at_border(self):
        """True if not a byte has arrived after the last complete reply."""
        return self.stream.size() == 0 and not self._kept

    def read(self, request):
        if not self.stream.ready():
            return None
        if request.verb.values:
            return self._read_values(request)
        if request.verb.meta:
            return self._read_meta(request)
        return self._read_line(request.verb)

    def _line_end(self, start):
        """The offset after the line that starts at `start`, or 0 while its end has not arrived."""
        stream = self.stream
        end = stream.line_end(start)
        if end < 0:
            if stream.end - start > limits.MAX_REPLY_LINE:
                raise BackendError(PROTOCOL, "a line without end")
            return 0
        if end == start or stream.byte(end - 1) != 13:
            raise BackendError(PROTOCOL, "a line that does not end in CRLF")
        return end + 1

    def _read_line(self, verb):
        stream = self.stream
        after = self._line_end(stream.pos)
        if after == 0:
            stream.need = 0
            return None
        line = stream.cut(stream.pos, after)
        stream.pos = after
        if line not in verb.answers:
            self._check_odd_line(verb, line)
        return line

    def _check_odd_line(self, verb, line):
        if is_error_line(line):
            self.out_of_step = verb.kind == "store" and not line.startswith(b"SERVER_ERROR")
        elif verb.kind != "count" or not line[:-2].rstrip(b" ").isdigit():
            raise BackendError(PROTOCOL, f"{verb.name.decode()} was answered {line[:60]!r}")

    def _read_values(self, request):
        stream = self.stream
        pos = stream.pos
        keys = request.keys
        if not self._kept:
            self.found = 0
            if keys is not None:
                keys.forget_values()
        while True:
            if keys is not None:
                pos = keys.pass_plain(stream, pos, self._kept - stream.pos)
            after = self._line_end(pos)
            if after == 0:
                return self._keep_blocks(pos, 0)
            if not stream.begins(pos, VALUE):
                break
            key_end = stream.word_end(pos + 6, after - 2)
            flags_end = stream.word_end(key_end + 1, after - 2)
            length_end = stream.word_end(flags_end + 1, after - 2)
            length = stream.number(flags_end + 1, length_end)
            if length < 0 or stream.number(key_end + 1, flags_end) < 0 or not self._ends_well(length_end, after - 2):
                raise BackendError(PROTOCOL, f"a bad header {stream.cut(pos, pos + 60)!r}")
            after += length + 2
            if after > stream.end:
                ends = len(END) if keys is None and length > LONG else 0  # then all of the reply comes to one place
                return self._keep_blocks(pos, after - pos + ends)
            if not stream.begins(after - 2, CRLF):
                raise BackendError(PROTOCOL, "a value without its line end")
            self._check_key(request, pos + 6, key_end)
            if keys is not None:
                keys.note(self._kept + after - stream.pos)
            pos = after
        if not stream.begins(pos, END):
            return self._error_instead(request, pos, after)
        reply = stream.cut(stream.pos, after)
        stream.pos = after
        if self._kept:
            reply = self._join_pieces(reply)
        if keys is not None:
            self.found = keys.values
            request.mapped = reply is not REPLY_TOO_LARGE
        return reply

    def _ends_well(self, length_end, stop):
        """True if behind the length of a value there is nothing but, perhaps, the number that gets gives."""
        return length_end == stop or self.stream.all_digits(length_end + 1, stop)

    def _join_pieces(self, last):
        fits = self._kept <= limits.MAX_REPLY
        self._pieces.append(last)
        reply = b"".join(self._pieces) if fits else REPLY_TOO_LARGE
        self._pieces = []
        self._kept = 0
        return reply

    def _read_meta(self, request):
        """A meta answer: VA <length> <flags> and the data, or one line."""
        stream = self.stream
        verb = request.verb
        start = stream.pos
        after = self._line_end(start)
        if after == 0:
            stream.need = 0
            return None
        told = start + 2
        code = stream.cut(start, told)
        self.found = 0
        if code not in verb.answers:
            return self._read_meta_error(request, after)
        if code == b"VA":
            told = stream.word_end(start + 3, after - 2)
            length = stream.number(start + 3, told)
            if length < 0 or stream.byte(start + 2) != BLANK:
                raise self._odd_meta(request, after)
        if not self._is_asked_for(request, code, told, after - 2):
            raise self._odd_meta(request, after)
        if code == b"VA":
            block = after
            after += length + 2
            if after - start > limits.MAX_REPLY:
                raise BackendError(PROTOCOL, f"a value too large: {stream.cut(start, block)[:60]!r}")
            if after > stream.end:
                stream.need = after - start
                return None
            if not stream.begins(after - 2, CRLF):
                raise BackendError(PROTOCOL, "a value without its line end")
            if verb.name == b"ma" and not COUNT.fullmatch(stream.cut(block, after)):
                raise BackendError(PROTOCOL, f"a count that is no number: {stream.cut(start, after)[:60]!r}")
        if code == b"VA" or code == b"HD":
            self.found = 1
        stream.pos = after
        return stream.cut(start, after)

    def _is_asked_for(self, request, code, at, stop):
        """True if a server may answer `code` and then what stands from `at` to before `stop`: it tells what was asked, and, unasked, of
        the right to recache. Anything else is the answer to somebody else."""
        stream = self.stream
        if code == b"ME":
            return at + 1 < stop and stream.byte(at) == BLANK
        asked = letters_of(request.line, len(request.key) + 3)
        if code == b"VA" and not asked & VALUE_FLAG:
            return False
        if code == b"HD" and asked & VALUE_FLAG and b"VA" in request.verb.answers:
            return False
        while at < stop:
            end = stream.word_end(at + 1, stop)
            if stream.byte(at) != BLANK or not self._may_be_told(at + 1, end, asked | UNASKED):
                return False
            at = end
        return True

    def _may_be_told(self, start, stop, letters):
        """True if from `start` to before `stop` is a flag with one of the `letters`, and what may stand behind it."""
        stream = self.stream
        letter = stream.byte(start)
        if not A <= letter <= z:
            return False
        flag = letters & (A_FLAG << (letter - A))
        start += 1
        if flag & NUMBERS:
            return stream.number(start, stop) >= 0
        if flag & LONG_NUMBERS:
            return stop - start <= 20 and stream.all_digits(start, stop)
        if flag & SIGNED_NUMBERS:
            return stream.number(start + 1 if stream.byte(start) == MINUS else start, stop) >= 0
        if flag & TRUTHS:
            return stop - start == 1 and 0 <= stream.number(start, stop) <= 1
        return flag != 0

    def _read_meta_error(self, request, after):
        """A line that is no answer to a meta command."""
        stream = self.stream
        line = stream.cut(stream.pos, after)
        if not is_error_line(line):
            raise self._odd_meta(request, after)
        self.out_of_step = request.verb.kind == "meta_set" and line.startswith(BLOCK_NOT_READ)
        stream.pos = after
        return line

    def _odd_meta(self, request, after):
        """What to raise if a line that ends at `after` cannot be the answer."""
        line = self.stream.cut(self.stream.pos, min(after, self.stream.pos + 60))
        return BackendError(PROTOCOL, f"{request.line[:60]!r} was answered {line!r}")

    def _check_key(self, request, start, stop):
        """The server answers keys in the order asked: another one belongs to somebody else's request."""
        stream = self.stream
        if request.keys is None:
            if self.found or not stream.equals(start, stop, request.key):
                raise BackendError(PROTOCOL, f"the value of {stream.cut(start, stop)!r} for {request.key!r}")
            self.found = 1
        elif not request.keys.find(stream, start, stop):
            raise BackendError(PROTOCOL, f"the value of {stream.cut(start, stop)!r} that was not asked for")

    def _keep_blocks(self, pos, need):
        """The reply goes on: put its complete VALUE blocks aside, so that they are not looked at again."""
        stream = self.stream
        if pos > stream.pos:
            self._pieces.append(stream.cut(stream.pos, pos))
            self._kept += pos - stream.pos
            if self._kept > limits.MAX_REPLY:
                self._pieces.clear()
        stream.wait_for(pos, need)
        return None

    def _error_instead(self, request, pos, after):
        """An error line takes the place of all values, as in memcached."""
        line = self.stream.cut(pos, after)
        if not is_error_line(line):
            raise BackendError(PROTOCOL, f"{request.verb.name.decode()} was answered {line[:60]!r}")
        self.stream.pos = after
        request.mapped = False
        self._pieces = []
        self._kept = 0
        self.found = 0
        return line

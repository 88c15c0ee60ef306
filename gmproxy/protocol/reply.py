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
META_ANSWER = re.compile(
    rb"(?:VA [0-9]{1,10}|HD|NS|EX|NF|EN)"
    rb"(?: [fs][0-9]{1,10}| c[0-9]{1,20}| [tl]-?[0-9]{1,10}| h[01]| [!-bdegi-km-ru-~][^ \n]*)*\r\n"
    rb"|ME [^\n]+\r\n"
)
COUNT = re.compile(rb"[0-9]{1,20}\r\n")
UNASKED_FLAGS = (b"W", b"X", b"Z", b"b")

#: How a server refuses an ms before it has read the data block: it takes that for commands.
BLOCK_NOT_READ = (b"ERROR", b"CLIENT_ERROR bad command line format", b"CLIENT_ERROR options flags")

#: A value of more bytes is received at its final place.
LONG = 4096

FULL = b"ERROR Too many open connections"
REPLY_TOO_LARGE = b"SERVER_ERROR out of memory writing get response\r\n"

def is_error_line(line):
    """True for memcached's three kinds of error line. A memcached that has no room for another connection also says ERROR,
    to nobody in particular, and closes: raises BackendError("overload")."""
    if line.startswith(FULL):
        raise BackendError(OVERLOAD, "the server has too many connections")
    return line.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"))


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
        if not self._kept:
            self.found = 0
            if request.keys is not None:
                request.keys.forget_values()
        keys = request.keys
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
        start = stream.pos
        after = self._line_end(start)
        if after == 0:
            stream.need = 0
            return None
        header = stream.cut(start, after)
        code = header[:2]
        if code in request.verb.answers and META_ANSWER.fullmatch(header):
            self._check_flags(request, header)
            if code == b"VA":
                after += int(header[3:-2].split(b" ", 1)[0]) + 2
                if after - start > limits.MAX_REPLY:
                    raise BackendError(PROTOCOL, f"a value too large: {header[:60]!r}")
                if after > stream.end:
                    stream.need = after - start
                    return None
                if not stream.begins(after - 2, CRLF):
                    raise BackendError(PROTOCOL, "a value without its line end")
                if request.verb.name == b"ma" and not COUNT.fullmatch(stream.cut(start + len(header), after)):
                    raise BackendError(PROTOCOL, f"a count that is no number: {stream.cut(start, after)[:60]!r}")
            self.found = 1 if code == b"HD" or code == b"VA" else 0
        elif is_error_line(header):
            self.found = 0
            self.out_of_step = request.verb.kind == "meta_set" and header.startswith(BLOCK_NOT_READ)
        else:
            raise BackendError(PROTOCOL, f"{request.verb.name.decode()} was answered {header[:60]!r}")
        stream.pos = after
        return header if code != b"VA" else stream.cut(start, after)

    def _check_flags(self, request, header):
        """A server tells what was asked, and, unasked, of the right to recache: anything else is the answer to somebody else."""
        asked = [word[:1] for word in request.line[:request.line.index(CRLF)].split(b" ")[2:]]
        code, *told = header[:-2].split(b" ")
        if code == b"ME":
            return
        odd = code == (b"HD" if b"v" in asked else b"VA") and b"VA" in request.verb.answers
        for word in told[1:] if code == b"VA" else told:
            if word[:1] not in asked and word[:1] not in UNASKED_FLAGS:
                odd = True
        if odd:
            raise BackendError(PROTOCOL, f"{request.line[:60]!r} was answered {header[:60]!r}")

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

"""What a memcached server answers: bytes in, whole replies out.

A reply is handed on exactly as it came. It is read closely enough to know its end for certain: every data block must be followed by
CRLF, every VALUE must be one of the keys that were asked, in that order, every line one that the command can have. Anything else
means that the stream is not in step, and raises BackendError("protocol"): the link must be closed.

A server may be newer than this file. A meta command with a flag whose effect is not known here may be answered by anything that is
well-formed, and a flag that is not known here may stand in any answer: both are handed on.
"""

import re

from gmproxy.errors import OVERLOAD, PROTOCOL, BackendError
from gmproxy.protocol import limits
from gmproxy.protocol.commands import Command
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ReplyParser, Request
from gmproxy.protocol.text.meta import encoded
from gmproxy.protocol.value_blocks import END
from gmproxy.protocol.value_header import VALUE, ValueHeader

CRLF = b"\r\n"
COUNT = re.compile(rb"[0-9]{1,20}\r\n")
#: The answer to incr and decr; old servers fill a number that has become shorter up with blanks.
PADDED_COUNT = re.compile(rb"[0-9]{1,20} *\r\n")
#: How a server refuses an ms before it has read the data block: it takes that for commands.
BLOCK_NOT_READ = (b"ERROR", b"CLIENT_ERROR bad command line format", b"CLIENT_ERROR options flags")

#: A value of more bytes is received at its final place.
LONG = 4096

BLANK, CARRIAGE_RETURN, LINE_FEED, MINUS, A, z = b" \r\n-Az"
A_FLAG = 1  # as wide as there are letters, in the compiled build

FULL = b"ERROR Too many open connections"
REPLY_TOO_LARGE = b"SERVER_ERROR out of memory writing get response\r\n"


def is_error_line(line: bytes) -> bool:
    """True for memcached's three kinds of error line. A memcached that has no room for another connection also says ERROR,
    to nobody in particular, and closes: raises BackendError("overload")."""
    if line.startswith(FULL):
        raise BackendError(OVERLOAD, "the server has too many connections")
    return line.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"))


def letters_of(line: bytes, start: int) -> int:
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


#: What a server returns only if it was asked for: of these flags, one that was not asked for belongs to another request.
ON_REQUEST = letters_of(b" c f h k l O s t v\r\n", 0)

VALUE_FLAG = letters_of(b" v\r\n", 0)

#: Flags of a request whose effect on the answer is known. With any other, any answer that the command has is handed on: memcached 1.6.45
#: answers HD to an mg with `v` whose `C` matches, and has E and x.
KNOWN_EFFECT = letters_of(b" b D F f h I J k L l M N O P q R s T t u v c\r\n", 0)

#: Flags that are followed by a number, by one that may be negative, by one of up to 20 digits, by 0 or 1. Behind others may be anything.
NUMBERS, SIGNED_NUMBERS, LONG_NUMBERS, TRUTHS = (
    letters_of(b" f s\r\n", 0),
    letters_of(b" t l\r\n", 0),
    letters_of(b" c\r\n", 0),
    letters_of(b" h\r\n", 0),
)

#: Flags by which an answer says what it belongs to.
KEY, OPAQUE = b"kO"


class TextReplyParser(ReplyParser):
    """The replies of a server of the text protocol (a ReplyParser).

    `out_of_step` is set by any refusal of a storage command but SERVER_ERROR, before which memcached reads the data block away.
    """

    __slots__ = ("stream", "values_found", "out_of_step", "_header", "_pieces", "_saved", "_skip")

    def __init__(self) -> None:
        self.stream = RecvBuffer()
        self.values_found = 0
        self.out_of_step = False
        self._header = ValueHeader()
        self._pieces: list[bytes] = []  # VALUE blocks of a reply whose end has not arrived
        self._saved = 0  # bytes in them, and those that were thrown away because they were too many
        self._skip = 0  # bytes of such a data block, its CRLF included, that are still to be thrown away

    def is_between_messages(self) -> bool:
        """True if not a byte has arrived after the last complete reply."""
        return self.stream.size() == 0 and not self._saved

    def parse_reply(self, request: Request) -> bytes | None:
        if not self.stream.has_news():
            return None
        if self._skip and not self._skip_block():
            return None
        if request.command.returns_values:
            return self._parse_values(request)
        if request.command.is_meta:
            return self._parse_meta(request)
        return self._parse_line(request.command)

    def _line_end(self, start: int) -> int:
        """The offset after the line that starts at `start`, or 0 while its end has not arrived."""
        stream = self.stream
        end = stream.line_end(start)
        if end < 0:
            if stream.end - start > limits.MAX_REPLY_LINE:
                raise BackendError(PROTOCOL, f"reply line longer than {limits.MAX_REPLY_LINE} bytes")
            return 0
        if end == start or stream.byte_at(end - 1) != 13:
            raise BackendError(PROTOCOL, "a line that does not end in CRLF")
        return end + 1

    def _parse_line(self, command: Command) -> bytes | None:
        stream = self.stream
        after = self._line_end(stream.pos)
        if after == 0:
            stream.need = 0
            return None
        line = stream.cut(stream.pos, after)
        stream.pos = after
        if line not in command.valid_replies:
            self._check_uncommon_line(command, line)
        return line

    def _check_uncommon_line(self, command: Command, line: bytes) -> None:
        if is_error_line(line):
            self.out_of_step = command.kind == "store" and not line.startswith(b"SERVER_ERROR")
        elif command.kind != "count" or PADDED_COUNT.fullmatch(line) is None:
            raise BackendError(PROTOCOL, f"unexpected reply to {command.name.decode()}: {line[:60]!r}")

    def _parse_values(self, request: Request) -> bytes | None:
        stream = self.stream
        pos = stream.pos
        header = self._header
        keys = request.keys
        if not self._saved:
            self.values_found = 0
            if keys is not None:
                keys.clear_values()
        while True:
            if keys is not None:
                pos = keys.record_whole_values(stream, pos, self._saved - stream.pos)
            after = self._line_end(pos)
            if after == 0:
                return self._save_values(pos, 0)
            if not stream.starts_with(pos, VALUE):
                break
            key_end = stream.word_end(pos + 6, after - 2)
            if not stream.parse_value_header(header, key_end, after):
                raise BackendError(PROTOCOL, f"a bad header {stream.cut(pos, pos + 60)!r}")
            after = header.end
            if after > stream.end:
                if self._saved + after - stream.pos > limits.MAX_REPLY:
                    self._check_key(request, pos + 6, key_end)
                    if keys is not None:
                        keys.record_value(self._saved + after - stream.pos)
                    return self._begin_to_skip(after, header.length)
                ends = len(END) if keys is None and header.length > LONG else 0  # then all of the reply comes to one place
                return self._save_values(pos, after - pos + ends)
            if not stream.starts_with(after - 2, CRLF):
                raise BackendError(PROTOCOL, "a value without its line end")
            self._check_key(request, pos + 6, key_end)
            if keys is not None:
                keys.record_value(self._saved + after - stream.pos)
            pos = after
        if not stream.starts_with(pos, END):
            return self._parse_error_line(request, pos, after)
        reply = stream.cut(stream.pos, after)
        stream.pos = after
        if self._saved:
            reply = self._join_pieces(reply)
        if keys is not None:
            self.values_found = keys.values
            request.has_value_offsets = reply is not REPLY_TOO_LARGE
        return reply

    # -- data blocks that are too large

    def _begin_to_skip(self, after: int, length: int) -> bytes | None:
        """The data block of `length` bytes that ends, with its CRLF, at offset `after` has not all arrived and is too large to be kept: throw
        it away as it comes, and what there is of the reply. A length is only announced: no memory is taken for it."""
        self._pieces.clear()
        self._saved += after - self.stream.pos
        self._skip = length + 2
        self.stream.pos = after - self._skip
        self._skip_block()
        return None

    def _skip_block(self) -> bool:
        """True once all of such a data block has come. Raises BackendError if no CRLF follows it."""
        stream = self.stream
        stream.need = 0
        self._skip -= stream.discard(self._skip - len(CRLF))
        if self._skip > len(CRLF):
            return False
        if stream.end - stream.pos < len(CRLF):
            stream.need = len(CRLF)
            return False
        if not stream.starts_with(stream.pos, CRLF):
            raise BackendError(PROTOCOL, "a value without its line end")
        self._skip = 0
        stream.pos += len(CRLF)
        return True

    def _join_pieces(self, last: bytes) -> bytes:
        fits = self._saved <= limits.MAX_REPLY
        self._pieces.append(last)
        reply = b"".join(self._pieces) if fits else REPLY_TOO_LARGE
        self._pieces = []
        self._saved = 0
        return reply

    def _parse_meta(self, request: Request) -> bytes | None:
        """A meta answer: VA <length> <flags> and the data, or one line."""
        stream = self.stream
        command = request.command
        start = stream.pos
        if self._saved:  # its data block was too large and has been thrown away
            self._saved = 0
            self.values_found = 0
            return REPLY_TOO_LARGE
        after = self._line_end(start)
        if after == 0:
            stream.need = 0
            return None
        code_end = start + 2
        code = stream.cut(start, code_end)
        self.values_found = 0
        if code not in command.valid_replies:
            return self._parse_meta_error(request, after)
        if code == b"VA":
            code_end = stream.word_end(start + 3, after - 2)
            length = stream.parse_number(start + 3, code_end)
            if length < 0 or stream.byte_at(start + 2) != BLANK:
                raise self._unexpected_meta(request, after)
        if not self._can_answer(request, code, code_end, after - 2):
            raise self._unexpected_meta(request, after)
        if code == b"VA":
            block = after
            after += length + 2
            if after > stream.end:
                if after - start > limits.MAX_REPLY:
                    return self._begin_to_skip(after, length)
                stream.need = after - start
                return None
            if not stream.starts_with(after - 2, CRLF):
                raise BackendError(PROTOCOL, "a value without its line end")
            if command.name == b"ma" and not COUNT.fullmatch(stream.cut(block, after)):
                raise BackendError(PROTOCOL, f"a count that is no number: {stream.cut(start, after)[:60]!r}")
        if code == b"VA" or code == b"HD":
            self.values_found = 1
        stream.pos = after
        return stream.cut(start, after)

    def _can_answer(self, request: Request, code: bytes, at: int, stop: int) -> bool:
        """True if a server may answer `request` by `code` and then what stands from `at` to before `stop`; else it answers another one. A server
        returns what was requested for and, without being requested, of the right to recache, of stale items, and what we do not know yet."""
        stream = self.stream
        if code == b"ME":
            return stream.byte_at(at) == BLANK and self._is_key(request, at + 1, stream.word_end(at + 1, stop))
        requested = letters_of(request.line, len(request.key) + 3)
        excluded = ON_REQUEST & ~requested
        if requested & ~KNOWN_EFFECT:
            excluded = 0
        elif code == b"VA" and excluded & VALUE_FLAG:
            return False
        elif code == b"HD" and requested & VALUE_FLAG and b"VA" in request.command.valid_replies:
            return False
        while at < stop:
            end = stream.word_end(at + 1, stop)
            if stream.byte_at(at) != BLANK or not self._is_valid_flag(request, at + 1, end, excluded):
                return False
            at = end
        return True

    def _is_valid_flag(self, request: Request, start: int, stop: int, excluded: int) -> bool:
        """True if from `start` to before `stop` is a flag that is not `excluded`, and behind it what may stand there."""
        stream = self.stream
        letter = stream.byte_at(start)
        if not A <= letter <= z:
            return False
        flag = A_FLAG << (letter - A)
        if flag & excluded:
            return False
        start += 1
        if flag & NUMBERS:
            return stream.parse_number(start, stop) >= 0
        if flag & LONG_NUMBERS:
            return stream.is_cas_number(start, stop)
        if flag & SIGNED_NUMBERS:
            return stream.parse_number(start + 1 if stream.byte_at(start) == MINUS else start, stop) >= 0
        if flag & TRUTHS:
            return stop - start == 1 and 0 <= stream.parse_number(start, stop) <= 1
        if letter == KEY:
            return self._is_key(request, start, stop)
        if letter == OPAQUE:
            return self._is_opaque(request, start - 1, stop)
        return True

    def _is_key(self, request: Request, start: int, stop: int) -> bool:
        """True if the key of `request` stands from `start` to before `stop`: as it is or in base64, whichever of them the request has. memcached
        1.6.18 returns it as the item was stored."""
        stream = self.stream
        return stream.equals(start, stop, request.key) or stream.cut(start, stop) == encoded(request.key)

    def _is_opaque(self, request: Request, start: int, stop: int) -> bool:
        """True if the flag from `start` to before `stop` stands in the command line of `request`, too."""
        words = request.line[: request.line.index(CRLF)].split(b" ")
        return self.stream.cut(start, stop) in words[2:]

    def _parse_meta_error(self, request: Request, after: int) -> bytes:
        """A line that is no answer to a meta command."""
        stream = self.stream
        line = stream.cut(stream.pos, after)
        if not is_error_line(line):
            raise self._unexpected_meta(request, after)
        self.out_of_step = request.command.kind == "meta_set" and line.startswith(BLOCK_NOT_READ)
        stream.pos = after
        return line

    def _unexpected_meta(self, request: Request, after: int) -> BackendError:
        """What to raise if a line that ends at `after` cannot be the answer."""
        line = self.stream.cut(self.stream.pos, min(after, self.stream.pos + 60))
        return BackendError(PROTOCOL, f"unexpected reply to {request.line[:60]!r}: {line!r}")

    def _check_key(self, request: Request, start: int, stop: int) -> None:
        """The server answers keys in the order requested: another one belongs to somebody else's request."""
        stream = self.stream
        if request.keys is None:
            if self.values_found or not stream.equals(start, stop, request.key):
                raise BackendError(PROTOCOL, f"the value of {stream.cut(start, stop)!r} for {request.key!r}")
            self.values_found = 1
        elif not request.keys.match_next(stream, start, stop):
            raise BackendError(PROTOCOL, f"the value of {stream.cut(start, stop)!r} that was not requested for")

    def _save_values(self, pos: int, need: int) -> bytes | None:
        """The reply goes on: put its complete VALUE blocks aside, so that they are not looked at again."""
        stream = self.stream
        if pos > stream.pos:
            self._pieces.append(stream.cut(stream.pos, pos))
            self._saved += pos - stream.pos
            if self._saved > limits.MAX_REPLY:
                self._pieces.clear()
        stream.require(pos, need)
        return None

    def _parse_error_line(self, request: Request, pos: int, after: int) -> bytes:
        """An error line takes the place of all values, as in memcached."""
        line = self.stream.cut(pos, after)
        if not is_error_line(line):
            raise BackendError(PROTOCOL, f"unexpected reply to {request.command.name.decode()}: {line[:60]!r}")
        self.stream.pos = after
        request.has_value_offsets = False
        self._pieces = []
        self._saved = 0
        self.values_found = 0
        return line

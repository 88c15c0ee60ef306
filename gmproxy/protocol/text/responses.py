"""The replies of a server of the text protocol: bytes in, complete replies out.

A reply is returned exactly as it was received. It is checked as far as needed to be sure where it ends and which request it belongs to: a
data block must be followed by CRLF, the keys of VALUE blocks must be those that were requested, in that order, and a line must be one with
which a server can reply to the command. Anything else means that requests and replies are out of step, and raises BackendError("protocol"):
the connection must be closed.

A server can be newer than gmproxy. Any well-formed reply is accepted for a meta command with a flag whose effect is not known here, and a
flag that is not known here may be in any reply to a meta command.
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
#: The reply to incr and decr. Old servers fill a number that has become shorter up with blanks.
PADDED_COUNT = re.compile(rb"[0-9]{1,20} *\r\n")
#: How the error lines begin after which a server parses the data block of an ms as commands.
BLOCK_NOT_READ = (b"ERROR", b"CLIENT_ERROR bad command line format", b"CLIENT_ERROR options flags")

#: Bytes: a longer value is received directly to its final place in memory.
LONG_VALUE = 4096

BLANK, CARRIAGE_RETURN, LINE_FEED, MINUS, A, z = b" \r\n-Az"
BIT_OF_A = 1  # a number of 64 bits in the compiled build, where a literal would have 32

TOO_MANY_CONNECTIONS = b"ERROR Too many open connections"
REPLY_TOO_LARGE = b"SERVER_ERROR out of memory writing get response\r\n"


def is_error_line(line: bytes) -> bool:
    """True if `line` is one of memcached's three kinds of error lines. Raises BackendError("overload") for the one that memcached sends before it
    closes a new connection, whatever it was sent."""
    if line.startswith(TOO_MANY_CONNECTIONS):
        raise BackendError(OVERLOAD, "the server has too many connections")
    return line.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR"))


def letters_of(line: bytes, start: int) -> int:
    """The letters with which the flags of a meta command begin: a bit for each, the lowest for A. The flags begin at offset `start` of `line`
    and end at its first CRLF."""
    letters = 0
    byte = 0
    for at in range(start, len(line) - 1):
        before = byte
        byte = line[at]
        if byte == CARRIAGE_RETURN and line[at + 1] == LINE_FEED:
            break
        if before == BLANK and A <= byte <= z:
            letters |= BIT_OF_A << (byte - A)
    return letters


#: Flags that a server returns only if the request has them: otherwise the reply belongs to another request.
ON_REQUEST = letters_of(b" c f h k l O s t v\r\n", 0)

VALUE_FLAG = letters_of(b" v\r\n", 0)

#: Flags of a request whose effect on the reply is known. With any other, all replies in `valid_replies` of the command are accepted: memcached 1.6.45
#: replies HD to an mg with `v` whose `C` matches, and has the flags E and x.
KNOWN_EFFECT = letters_of(b" b D F f h I J k L l M N O P q R s T t u v c\r\n", 0)

#: Flags of a reply that are followed by a number of up to 10 digits, by one that may be negative, by one of up to 20 digits, by 0 or 1.
NUMBERS, SIGNED_NUMBERS, LONG_NUMBERS, BOOLEANS = (
    letters_of(b" f s\r\n", 0),
    letters_of(b" t l\r\n", 0),
    letters_of(b" c\r\n", 0),
    letters_of(b" h\r\n", 0),
)

#: Flags of a reply that show which request it belongs to.
KEY, OPAQUE = b"kO"


class TextReplyParser(ReplyParser):
    """The replies of a server of the text protocol (a ReplyParser).

    `out_of_step` is set by error lines that refuse a storage command, except SERVER_ERROR, before which memcached reads and discards the data block.

    In its methods `pos`, `start`, `at`, `stop` and `after` are offsets in the stream, as is `header.end`. The first `_saved` bytes of a long reply to
    a get are no longer in the stream: so offset `x` of the stream is offset `x - stream.pos + _saved` of the reply. The key of a VALUE block
    that begins at `pos` is at `pos + 6`.
    """

    __slots__ = ("stream", "values_found", "out_of_step", "_header", "_pieces", "_saved", "_skip")

    def __init__(self) -> None:
        self.stream = RecvBuffer()
        self.values_found = 0
        self.out_of_step = False
        self._header = ValueHeader()
        self._pieces: list[bytes] = []  # complete VALUE blocks of an incomplete reply, or nothing if it is too large
        self._saved = 0  # bytes of the reply that are in them, or were discarded; 0 between replies
        self._skip = 0  # bytes that are still to be discarded of a data block that is too large, CRLF included

    def is_between_messages(self) -> bool:
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
        """The offset after the LF of the line that starts at `start`, or 0 while that has not arrived. Raises BackendError for a line that is too
        long or does not end in CRLF."""
        stream = self.stream
        end = stream.line_end(start)
        if end < 0:
            if stream.end - start > limits.MAX_REPLY_LINE:
                raise BackendError(PROTOCOL, f"reply line longer than {limits.MAX_REPLY_LINE} bytes")
            return 0
        if end == start or stream.byte_at(end - 1) != 13:
            raise BackendError(PROTOCOL, "reply line that does not end in CRLF")
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
        """Raises BackendError unless `line`, not one of `valid_replies`, is an error line or the reply to incr or decr."""
        if is_error_line(line):
            self.out_of_step = command.kind == "store" and not line.startswith(b"SERVER_ERROR")
        elif command.kind != "count" or PADDED_COUNT.fullmatch(line) is None:
            raise BackendError(PROTOCOL, f"unexpected reply to {command.name.decode()}: {line[:60]!r}")

    # -- replies to get, gets, gat and gats

    def _parse_values(self, request: Request) -> bytes | None:
        """The reply to a get: VALUE blocks and END, or an error line. `pos` is behind the blocks that are complete."""
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
                raise BackendError(PROTOCOL, f"bad header of a value: {stream.cut(pos, pos + 60)!r}")
            after = header.end
            if after > stream.end:
                if self._saved + after - stream.pos > limits.MAX_REPLY:
                    self._check_key(request, pos + 6, key_end)
                    if keys is not None:
                        keys.record_value(self._saved + after - stream.pos)
                    return self._begin_to_skip(after, header.length)
                # The reply to a get of one key ends with this value: if END is waited for, too, the reply needs no copy.
                end_size = len(END) if keys is None and header.length > LONG_VALUE else 0
                return self._save_values(pos, after - pos + end_size)
            if not stream.starts_with(after - 2, CRLF):
                raise BackendError(PROTOCOL, "value that is not followed by CRLF")
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

    def _check_key(self, request: Request, start: int, stop: int) -> None:
        """Raises BackendError unless the key from `start` to before `stop` is the key of `request`, or one of its keys behind the last one that
        was returned: a server returns values in the order requested, so any other value belongs to another request."""
        stream = self.stream
        if request.keys is None:
            if self.values_found or not stream.equals(start, stop, request.key):
                raise BackendError(PROTOCOL, f"value of key {stream.cut(start, stop)!r}, expected key {request.key!r}")
            self.values_found = 1
        elif not request.keys.match_next(stream, start, stop):
            raise BackendError(PROTOCOL, f"value of key {stream.cut(start, stop)!r}, which was not requested")

    def _save_values(self, pos: int, need: int) -> bytes | None:
        """The reply is not complete: move its VALUE blocks before `pos` to `_pieces`, so that they are not parsed again, and wait for `need` bytes
        from `pos` on (0: for any). Returns None."""
        stream = self.stream
        if pos > stream.pos:
            self._pieces.append(stream.cut(stream.pos, pos))
            self._saved += pos - stream.pos
            if self._saved > limits.MAX_REPLY:
                self._pieces.clear()
        stream.require(pos, need)
        return None

    def _join_pieces(self, last: bytes) -> bytes:
        """The reply that ends with `last`, or the error line in its place if it is too large."""
        fits = self._saved <= limits.MAX_REPLY
        self._pieces.append(last)
        reply = b"".join(self._pieces) if fits else REPLY_TOO_LARGE
        self._pieces = []
        self._saved = 0
        return reply

    def _parse_error_line(self, request: Request, pos: int, after: int) -> bytes:
        """The error line from `pos` to before `after`. It replaces all values of the reply, as in memcached."""
        line = self.stream.cut(pos, after)
        if not is_error_line(line):
            raise BackendError(PROTOCOL, f"unexpected reply to {request.command.name.decode()}: {line[:60]!r}")
        self.stream.pos = after
        request.has_value_offsets = False
        self._pieces = []
        self._saved = 0
        self.values_found = 0
        return line

    # -- replies to meta commands

    def _parse_meta(self, request: Request) -> bytes | None:
        """The reply to a meta command: VA <length> <flags> and the data, or one line."""
        stream = self.stream
        command = request.command
        start = stream.pos
        if self._saved:  # its data block was too large and has been discarded
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
        if not self._is_reply_to(request, code, code_end, after - 2):
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
                raise BackendError(PROTOCOL, "value that is not followed by CRLF")
            if command.name == b"ma" and not COUNT.fullmatch(stream.cut(block, after)):
                raise BackendError(PROTOCOL, f"counter that is not a number: {stream.cut(start, after)[:60]!r}")
        if code == b"VA" or code == b"HD":
            self.values_found = 1
        stream.pos = after
        return stream.cut(start, after)

    def _is_reply_to(self, request: Request, code: bytes, at: int, stop: int) -> bool:
        """True if the line with `code` and the flags from `at` to before `stop` can be the reply to `request`; otherwise it belongs to another one.
        Flags in ON_REQUEST must be in the request. Others may be in any reply: W, X, Z, and those not known here."""
        stream = self.stream
        if code == b"ME":
            return stream.byte_at(at) == BLANK and self._is_key(request, at + 1, stream.word_end(at + 1, stop))
        requested = letters_of(request.line, len(request.key) + 3)  # behind the key, or within it if it is in base64
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
        """True if from `start` to before `stop` is a flag whose bit is not in `excluded`, with a valid argument."""
        stream = self.stream
        letter = stream.byte_at(start)
        if not A <= letter <= z:
            return False
        flag = BIT_OF_A << (letter - A)
        if flag & excluded:
            return False
        start += 1
        if flag & NUMBERS:
            return stream.parse_number(start, stop) >= 0
        if flag & LONG_NUMBERS:
            return stream.is_cas_number(start, stop)
        if flag & SIGNED_NUMBERS:
            return stream.parse_number(start + 1 if stream.byte_at(start) == MINUS else start, stop) >= 0
        if flag & BOOLEANS:
            return stop - start == 1 and 0 <= stream.parse_number(start, stop) <= 1
        if letter == KEY:
            return self._is_key(request, start, stop)
        if letter == OPAQUE:
            return self._is_opaque(request, start - 1, stop)
        return True

    def _is_key(self, request: Request, start: int, stop: int) -> bool:
        """True if the key of `request` is from `start` to before `stop`, as it is or in base64. Either is valid: memcached 1.6.18 returns it in the
        form in which the item was stored, not in that of the request."""
        stream = self.stream
        return stream.equals(start, stop, request.key) or stream.cut(start, stop) == encoded(request.key)

    def _is_opaque(self, request: Request, start: int, stop: int) -> bool:
        """True if the opaque from `start` to before `stop`, with its O, is that of `request`."""
        words = request.line[: request.line.index(CRLF)].split(b" ")
        return self.stream.cut(start, stop) in words[2:]

    def _parse_meta_error(self, request: Request, after: int) -> bytes:
        """The error line up to offset `after`. Raises BackendError if it is not one."""
        stream = self.stream
        line = stream.cut(stream.pos, after)
        if not is_error_line(line):
            raise self._unexpected_meta(request, after)
        self.out_of_step = request.command.kind == "meta_set" and line.startswith(BLOCK_NOT_READ)
        stream.pos = after
        return line

    def _unexpected_meta(self, request: Request, after: int) -> BackendError:
        """The exception for a line, up to offset `after`, that cannot be the reply to `request`."""
        line = self.stream.cut(self.stream.pos, min(after, self.stream.pos + 60))
        return BackendError(PROTOCOL, f"unexpected reply to {request.line[:60]!r}: {line!r}")

    # -- data blocks that are too large

    def _begin_to_skip(self, after: int, length: int) -> bytes | None:
        """Discard the reply so far, and the data block of `length` bytes that ends, with its CRLF, at offset `after`, as it arrives. No memory
        is allocated for it: a broken server can announce any length."""
        self._pieces.clear()
        self._saved += after - self.stream.pos
        self._skip = length + 2
        self.stream.pos = after - self._skip
        self._skip_block()
        return None

    def _skip_block(self) -> bool:
        """Discard what has arrived of the data block. Returns True once it is complete. Raises BackendError if no CRLF follows it."""
        stream = self.stream
        stream.need = 0
        self._skip -= stream.discard(self._skip - len(CRLF))
        if self._skip > len(CRLF):
            return False
        if stream.end - stream.pos < len(CRLF):
            stream.need = len(CRLF)
            return False
        if not stream.starts_with(stream.pos, CRLF):
            raise BackendError(PROTOCOL, "value that is not followed by CRLF")
        self._skip = 0
        stream.pos += len(CRLF)
        return True

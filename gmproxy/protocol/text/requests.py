"""The text protocol of clients: bytes in, requests out. Login by memcached's ASCII authentication is part of it, and so are meta commands, whose
flags are in meta.py.

The rules are those of memcached's protocol.txt, and where it is not exact, those of memcached 1.6.45. This includes after which errors the data
block is not discarded but parsed as commands, as memcached does if the line has no valid length. A number that memcached 1.6.18 accepts and 1.6.45
refuses is accepted.

A server is not always sent the line of the client. `noreply` is removed, so that every request has a reply, and requests and replies on a connection
cannot get out of step. Unusual numbers and blanks are written in the plain form, so that no server can see the end of a command elsewhere than
this parser did.
"""

from typing import Any

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS, LOGIN, WRONG_PASSWORD, Command
from gmproxy.protocol.internal_commands import delete_line
from gmproxy.protocol.key_list import KEY_LIST_PARSER, KeyList
from gmproxy.protocol.numbers import as_int32, c_number
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ClientProtocolError, Request, RequestParser, local_reply, new_request
from gmproxy.protocol.text.meta import INVALID as INVALID_FLAG
from gmproxy.protocol.text.meta import META_FORMS, TOO_MANY_FLAGS, MetaCommand, MetaForm, join_words, parse_meta_command, parse_meta_debug

ERROR = b"ERROR\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_DATA = b"CLIENT_ERROR bad data chunk\r\n"
BAD_DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
BAD_EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
BAD_DELETE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
UNAUTHENTICATED = b"CLIENT_ERROR unauthenticated\r\n"
BAD_TERMINATION = b"CLIENT_ERROR bad command line termination\r\n"
BAD_LOGIN = b"CLIENT_ERROR bad authentication token format\r\n"
WRONG_LOGIN = b"CLIENT_ERROR authentication failure\r\n"
STORED = b"STORED\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
OK = b"OK\r\n"
CRLF = b"\r\n"

DELETE = COMMANDS[b"delete"]
META_DELETE = COMMANDS[b"md"]
NOREPLY = b"noreply"
HTTP = b"HTTP/"
MAX_KEY = limits.MAX_KEY
MAX_LENGTH = limits.MAX_ANNOUNCED_LENGTH
#: Bytes, without the line feed: in a shorter line, memcached replies to an unknown command as to an incomplete one.
SHORTEST_LINE = 3
MAX_FLAGS = 2**32 - 1
MAX_EXPTIME = 2**31 - 1


class LineTooLong(ClientProtocolError):
    """A command line is longer than its limit. The connection is closed without a reply, as in memcached."""


class HttpRequest(ClientProtocolError):
    """The line is that of an HTTP request: a web page may have a browser send commands in its body. The connection is closed without a reply before
    anything else is parsed, as in memcached."""


class TextParser(RequestParser):
    """A RequestParser of the text protocol. Raises LineTooLong and HttpRequest. Once the client has logged in, `users` is None.

    In its methods `pos`, `start`, `name_end`, `stop` and `end` are offsets in the stream. stream.pos is where the line begins, `start` is where the
    name of the command begins, `name_end` the blank behind it, `stop` the end of the line without CRLF, and `end` its LF. A method that returns
    `Request | None` returns None while the data block has not all arrived; then the line is parsed again when it has.
    """

    __slots__ = ("stream", "max_item_size", "users", "skip", "reply_after_skip")

    def __init__(self, max_item_size: int, users: Any = None) -> None:
        self.stream = RecvBuffer()
        self.max_item_size = max_item_size
        self.users = users
        self.skip = 0  # bytes of a refused data block, CRLF included, that are still to be discarded
        self.reply_after_skip: Request | None = None  # the request with the error line for it

    def is_authenticated(self) -> bool:
        return self.users is None

    def is_between_messages(self) -> bool:
        return self.skip == 0 and self.stream.size() == 0

    def next_request(self) -> Request | None:
        stream = self.stream
        if self.skip:
            return self._skip_refused_block()
        if not stream.has_news():
            return None
        if self.users is not None:
            return self._log_in()
        start = stream.pos
        end = stream.line_end(start)
        if end < 0:
            stream.need = 0
            self._check_unfinished(start)
            return None
        stop = end
        if stop > start and stream.byte_at(stop - 1) == 13:
            stop -= 1
        nul = stream.find_nul(start, stop)
        if nul >= 0:
            stop = nul  # memcached parses the line as a C string
        while start < stop and stream.byte_at(start) == 32:  # a blank; as a literal it is a C constant
            start += 1
        name_end = stream.word_end(start, stop)
        command = COMMANDS.get(stream.cut(start, name_end))
        if command is not None and command.returns_values and not command.is_write:
            stream.pos = end + 1
            return self._retrieve(command, start, name_end, stop)
        # The next two are for commands in the plain form, which clients use: a server can be sent the line as it is. No blanks precede the name.
        if command is not None and command.ends_with_length and start == stream.pos:
            length = self._plain_length(name_end, stop)
            if length >= 0:
                key = stream.cut(name_end + 1, stream.word_end(name_end + 1, stop))
                return self._with_block(command, key, None, length, False, end + 1)
        if command is not None and command.is_meta and start == stream.pos:
            form = self._plain_meta_form(command, name_end, stop)
            if form is not None:
                return self._plain_meta(form, name_end, stop)
        return self._parse_words(start, stop, end)

    def _log_in(self) -> Request | None:
        """The only command of a client that has not logged in: a set of any key with `USER PASSWORD` as its value, as in memcached -Y."""
        stream = self.stream
        start = stream.pos
        end = stream.line_end(start)
        if (stream.end if end < 0 else end) - start > limits.MAX_LOGIN:
            raise LineTooLong
        if end < 0:
            stream.need = 0
            return None
        words = [word for word in stream.cut(start, end).split(b" ") if word]
        length = c_number(words[4], 0, MAX_LENGTH) if len(words) > 4 and words[0] == b"set" else None
        if length is None:
            if len(words) > 1 and words[-1].startswith(HTTP):
                raise HttpRequest
            stream.pos = end + 1
            return local_reply(UNAUTHENTICATED)
        if length > limits.MAX_LOGIN:
            raise LineTooLong
        after = end + 1 + length + 2
        if after > stream.end:
            stream.need = after - start
            return None
        stream.pos = after
        if not stream.starts_with(after - 2, CRLF):
            return local_reply(BAD_TERMINATION)
        words = [word for word in stream.cut(end + 1, after - 2).split(b" ") if word]
        if len(words) < 2:
            return local_reply(BAD_LOGIN)
        if not self.users.allow(words[0], words[1]):
            return new_request(WRONG_PASSWORD, b"", WRONG_LOGIN)
        self.users = None
        return new_request(LOGIN, b"", STORED)

    def _check_unfinished(self, start: int) -> None:
        """Raises LineTooLong if the incomplete line at `start` is longer than its limit."""
        size = self.stream.end - start
        if size > limits.MAX_UNFINISHED_LINE:
            head = self.stream.cut(start, start + 104).lstrip(b" ")  # as in memcached, at most 100 blanks may precede the name
            if size > limits.MAX_GET_LINE or not head.startswith((b"get ", b"gets ")):
                raise LineTooLong

    def _retrieve(self, command: Command, start: int, name_end: int, stop: int) -> Request:
        """get or gets, the most frequent and the longest commands: the line is not split into words."""
        stream = self.stream
        pos = name_end + 1
        if 0 < stop - pos <= MAX_KEY and stream.word_end(pos, stop) == stop and stream.starts_with(stop, CRLF):
            return new_request(command, stream.cut(pos, stop), stream.cut(start, stop + 2))
        keys = KEY_LIST_PARSER.parse_keys(stream, pos, stop, MAX_KEY)
        if keys is None:
            return local_reply(BAD_FORMAT)
        if len(keys) == 1:
            return new_request(command, keys[0], b"%b %b\r\n" % (command.name, keys[0]))
        return self._retrieve_many(command, keys, command.prefix)

    def _plain_length(self, name_end: int, stop: int) -> int:
        """The length of the data block, in bytes, if the name is followed by `key flags exptime bytes` in the plain form: single blanks, digits only,
        CRLF. Such a line is sent to a server as it is. Otherwise -1."""
        stream = self.stream
        key_end = stream.word_end(name_end + 1, stop)
        flags_end = stream.word_end(key_end + 1, stop)
        exptime_end = stream.word_end(flags_end + 1, stop)
        flags = stream.parse_number(key_end + 1, flags_end)
        exptime = stream.parse_number(flags_end + 1, exptime_end)
        if not (0 <= flags <= MAX_FLAGS and 0 <= exptime <= MAX_EXPTIME and stream.starts_with(stop, CRLF)):
            return -1
        if not 1 <= key_end - name_end - 1 <= MAX_KEY:
            return -1
        length = stream.parse_number(exptime_end + 1, stop)
        return length if length <= MAX_LENGTH else -1

    def _plain_meta_form(self, command: Command, name_end: int, stop: int) -> MetaForm | None:
        """The MetaForm of a meta command if the name is followed by `key flags`, or by `key bytes flags` for ms, in the plain form and with flags for
        which there is a MetaForm. Otherwise None."""
        stream = self.stream
        key_end = stream.word_end(name_end + 1, stop)
        if not (1 <= key_end - name_end - 1 <= MAX_KEY and stream.starts_with(stop, CRLF)):
            return None
        flags_at = key_end
        if command.kind == "meta_set":
            flags_at = stream.word_end(key_end + 1, stop)
            if not 0 <= stream.parse_number(key_end + 1, flags_at) <= self.max_item_size:
                return None
        return META_FORMS.form_for(command, stream.cut(flags_at, stop))

    def _plain_meta(self, form: MetaForm, name_end: int, stop: int) -> Request | None:
        """The request for the command whose MetaForm is `form`."""
        stream = self.stream
        start = stream.pos
        key_end = stream.word_end(name_end + 1, stop)
        key = stream.cut(name_end + 1, key_end)
        if form.is_store:
            flags_at = stream.word_end(key_end + 1, stop)
            line = None if form.is_unchanged else stream.cut(start, flags_at) + form.end
            request = self._with_block(form.command, key, line, stream.parse_number(key_end + 1, flags_at), False, stop + 2)
        else:
            stream.pos = stop + 2
            line = stream.cut(start, stop + 2) if form.is_unchanged else stream.cut(start, key_end) + form.end
            request = new_request(form.command, key, line)
        if request is not None:
            request.renderer = form.renderer(key)
        return request

    def _parse_words(self, start: int, stop: int, end: int) -> Request | None:
        """Any other command: the line is split into words, and the method for the kind of command parses these."""
        stream = self.stream
        words = stream.cut(start, stop).split(b" ")
        if b"" in words:
            words = [word for word in words if word]
        command = COMMANDS.get(words[0]) if words else None
        if end - start > limits.MAX_LINE:
            raise LineTooLong
        if command is None and len(words) > 1 and words[-1].startswith(HTTP):
            raise HttpRequest
        if command is None and words and end - stream.pos >= SHORTEST_LINE:
            return self._refuse(ERROR, words[-1] == NOREPLY, end + 1)
        if command is None or len(words) < command.min_args:
            return self._refuse(BAD_FORMAT, False, end + 1)
        if command.kind == "store":
            return self._store(command, words, end + 1)
        if command.kind == "meta_set":
            return self._meta_set(command, words, end + 1)
        stream.pos = end + 1
        request: Request | None = getattr(self, "_" + command.kind)(command, words)
        return request

    def _retrieve_many(self, command: Command, keys: KeyList, prefix: bytes) -> Request:
        """A request for several keys. Its `line` is `prefix`, what is before the keys: routing completes it."""
        if not keys:
            return local_reply(BAD_FORMAT)
        request = new_request(command, keys[0], prefix)
        request.keys = keys
        return request

    def _retrieve_and_touch(self, command: Command, words: list[bytes]) -> Request:
        exptime = c_number(words[1], -(2**63), 2**63 - 1)
        if exptime is None:
            return local_reply(BAD_EXPTIME)
        keys = words[2:]
        for key in keys:
            if len(key) > MAX_KEY:
                return local_reply(BAD_FORMAT)
        prefix = b"%b %d " % (command.name, as_int32(exptime))
        if len(keys) == 1:
            return new_request(command, keys[0], prefix + keys[0] + CRLF)
        return self._retrieve_many(command, KeyList(keys), prefix)

    def _store(self, command: Command, words: list[bytes], pos: int) -> Request | None:
        """A storage command that is not in the plain form; its data block begins at `pos`. The reply to an error follows the block, which is
        discarded, unless its length is what is wrong."""
        length = c_number(words[4], 0, MAX_LENGTH) if len(words) > 4 else None
        if length is None:
            return self._refuse(BAD_FORMAT, False, pos)
        quiet = words[-1] == NOREPLY
        key = words[1]
        flags = c_number(words[2], 0, 2**64 - 1)
        exptime = c_number(words[3], -(2**63), 2**63 - 1)
        cas: int | None = 0
        if not command.ends_with_length:  # cas
            cas = c_number(words[5], 0, 2**64 - 1) if len(words) > 5 else None
        if flags is None or exptime is None or cas is None or len(key) > MAX_KEY:
            self._skip_block(length, pos, BAD_FORMAT, quiet)
            return self._skip_refused_block()
        line = b"%b %b %d %d %d" % (command.name, key, flags % 2**32, as_int32(exptime), length)
        line += CRLF if command.ends_with_length else b" %d\r\n" % cas
        return self._with_block(command, key, line, length, quiet, pos)

    def _with_block(self, command: Command, key: bytes, line: bytes | None, length: int, quiet: bool, pos: int) -> Request | None:
        """A storage command with a data block of `length` bytes at `pos`. `line`: the command line for the server; None: as it was received, so that
        line and block are one piece."""
        if length > self.max_item_size:
            delete = new_request(DELETE, key, delete_line(key)) if command.name == b"set" else None
            return self._refuse_large(delete, quiet, length, pos)
        stream = self.stream
        after = pos + length + 2
        if after > stream.end:
            stream.need = after - stream.pos
            return None
        start = stream.pos
        stream.pos = after
        if not stream.starts_with(after - 2, CRLF):
            return self._refuse(BAD_DATA, quiet, after)
        line = stream.cut(start, after) if line is None else line + stream.cut(pos, after)
        request = new_request(command, key, line)
        request.quiet = quiet
        return request

    def _refuse(self, error: bytes, quiet: bool, pos: int) -> Request:
        """Reply the line `error`, or nothing if `quiet` (noreply, as in memcached), and continue to parse at `pos`."""
        self.stream.pos = pos
        request = local_reply(error)
        request.quiet = quiet
        return request

    def _refuse_large(self, delete: Request | None, quiet: bool, length: int, pos: int) -> Request | None:
        """A data block that is too large. After a set, the request `delete` deletes the old item, as memcached does: otherwise the client
        would continue to read the value that it wanted to replace."""
        self._skip_block(length, pos, TOO_LARGE, quiet)
        if delete is None:
            return self._skip_refused_block()
        delete.quiet = True
        return delete

    def _skip_block(self, length: int, pos: int, error: bytes, quiet: bool) -> None:
        """Begin to discard the data block of `length` bytes at `pos`, after which the reply is `error`."""
        self.stream.pos = pos
        self.skip = length + 2
        self.reply_after_skip = local_reply(error)
        self.reply_after_skip.quiet = quiet

    def _skip_refused_block(self) -> Request | None:
        """Discard what has arrived of the data block. Returns `reply_after_skip` once that is all."""
        self.stream.need = 0
        self.skip -= self.stream.discard(self.skip)
        return self.reply_after_skip if self.skip == 0 else None

    def _meta_set(self, command: Command, words: list[bytes], pos: int) -> Request | None:
        """An ms that is not in the plain form, or has no MetaForm; otherwise as _store."""
        length = c_number(words[2], 0, MAX_LENGTH) if len(words) > 2 else None
        if length is None:
            return self._refuse(BAD_FORMAT, False, pos)
        if len(words[1]) > MAX_KEY or len(words) > limits.MAX_META_SET_WORDS:
            self._skip_block(length, pos, BAD_FORMAT if len(words[1]) > MAX_KEY else TOO_MANY_FLAGS, False)
            return self._skip_refused_block()
        parsed = MetaCommand(command.name, words[1], words[3:])
        if parsed.error is not None:
            self._skip_block(length, pos, parsed.error, False)
            return self._skip_refused_block()
        if length > self.max_item_size:
            flag = [b"b"] if parsed.key is not parsed.word else []
            delete = new_request(META_DELETE, parsed.key, join_words(b"md", parsed.word, *flag))
            return self._refuse_large(delete, False, length, pos)
        line = join_words(command.name, parsed.word, b"%d" % length, *parsed.flags)
        request = self._with_block(parsed.command(command), parsed.key, line, length, False, pos)
        if request is None:
            return None
        if request.command is None and not parsed.is_known:  # a bad data block: memcached checks the flags before it
            return local_reply(INVALID_FLAG)
        request.renderer = parsed.renderer()
        return request

    def _meta(self, command: Command, words: list[bytes]) -> Request:
        return parse_meta_command(command, words)

    def _meta_debug(self, command: Command, words: list[bytes]) -> Request:
        return parse_meta_debug(command, words)

    def _meta_noop(self, command: Command, words: list[bytes]) -> Request:
        """The reply to mn. The session sends it after those to all earlier requests."""
        return local_reply(b"MN\r\n")

    def _count(self, command: Command, words: list[bytes]) -> Request:
        """The server checks the number, but it must not be `noreply`: the server would not reply, and get out of step."""
        return self._line_about_key(command, words, words[2], BAD_DELTA if words[2] == NOREPLY else None)

    def _touch(self, command: Command, words: list[bytes]) -> Request:
        """The exptime is checked here, since routing may have to shorten it while a server is ejected (routing/stand_in.py)."""
        exptime = c_number(words[2], -(2**63), 2**63 - 1)
        if exptime is None:
            return self._line_about_key(command, words, b"", BAD_EXPTIME)
        return self._line_about_key(command, words, b"%d" % as_int32(exptime), None)

    def _delete(self, command: Command, words: list[bytes]) -> Request:
        """A key `noreply` is followed by 0, or the server would not reply, and get out of step (internal_commands.delete_line). A time is
        refused, as in memcached 1.6.18, whose reply the tests of libmemcached expect; 1.6.45 ignores it."""
        if words[2:] not in ([], [b"0"], [NOREPLY], [b"0", NOREPLY]):
            return self._refuse(BAD_DELETE, words[-1] == NOREPLY, self.stream.pos)
        return self._line_about_key(command, words, b"0" if words[1] == NOREPLY else None, None)

    def _line_about_key(self, command: Command, words: list[bytes], number: bytes | None, error: bytes | None) -> Request:
        """A command of one line with a key and, if it is not None, a `number`; or the reply `error`, if it is not None. Further words are ignored."""
        quiet = words[-1] == NOREPLY
        if len(words[1]) > MAX_KEY:
            error = BAD_FORMAT
        if error is not None:
            return self._refuse(error, quiet, self.stream.pos)
        line = command.prefix + words[1] + CRLF if number is None else b"%b %b %b\r\n" % (command.name, words[1], number)
        request = new_request(command, words[1], line)
        request.quiet = quiet
        return request

    def _flush(self, command: Command, words: list[bytes]) -> Request:
        quiet = words[-1] == NOREPLY
        delay: int | None = 0
        if len(words) - quiet > 1:
            delay = c_number(words[1], -(2**63), 2**63 - 1)
            if delay is None:
                return self._refuse(BAD_EXPTIME, quiet, self.stream.pos)
        request = new_request(command, b"", b"flush_all %d\r\n" % as_int32(delay) if delay else b"flush_all\r\n")
        request.quiet = quiet
        return request

    def _verbosity(self, command: Command, words: list[bytes]) -> Request:
        """Accepted and ignored: clients do not decide what gmproxy logs."""
        is_number = c_number(words[1], 0, 2**32 - 1) is not None
        return self._refuse(OK if is_number else BAD_FORMAT, words[-1] == NOREPLY, self.stream.pos)

    def _lru_crawler(self, command: Command, words: list[bytes]) -> Request:
        if words[-1] == NOREPLY:
            return self._refuse(ERROR, True, self.stream.pos)
        return self._admin(command, words)

    def _admin(self, command: Command, words: list[bytes]) -> Request:
        """A command to which gmproxy itself replies: `keys` are the words behind its name."""
        request = new_request(command, b"", b"")
        request.keys = words[1:]
        return request

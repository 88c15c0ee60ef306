"""The binary protocol of clients: packets in, requests of the text protocol out. client_replies.py renders the replies.

    get              gets KEY; consecutive quiet gets that have arrived are joined to one gets of all keys
    any other key    a meta command, mg, ms, md or ma, since these return the cas number and can have keys in base64

Requests are never quiet for servers: PacketRenderer suppresses the replies that the client is not to receive. Which requests are refused, and which
refusals close the connection, is as in memcached 1.6.18, except that the body of an unknown command is discarded instead of parsed as packets.
"""

from typing import Any

from gmproxy.protocol import limits
from gmproxy.protocol.binary.client_replies import OPERATIONS, UNKNOWN, PacketRenderer, PacketSequenceRenderer, new_renderer
from gmproxy.protocol.binary.codec import PacketHeader
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
from gmproxy.protocol.commands import (
    COMMANDS,
    LOGIN,
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
    Command,
)
from gmproxy.protocol.key_list import KeyList
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import ClientProtocolError, Request, RequestParser, local_reply, new_request
from gmproxy.protocol.text.meta import encoded, is_text

GETS = COMMANDS[b"gets"]
CRLF = b"\r\n"

MAX_KEY = limits.MAX_KEY

#: An exptime is signed in the text protocol: any later one becomes its last second, in 2038.
MAX_EXPTIME = 2**31 - 1

#: Operations that exist only if clients must log in, and those that do not require a login.
LOGIN_KINDS = ("mechanisms", "login")
OPEN_TO_ALL = ("mechanisms", "login", "version")


class BadPacket(ClientProtocolError):
    """A packet after which the connection is closed. `reply`: the packet that the client is sent before, as from memcached; b"" for none."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__()
        self.reply = reply


class BinaryParser(RequestParser):
    """A RequestParser of the binary protocol. Raises BadPacket.

    The methods for the kinds of operations (`_store` ...) have the fields of the packet as arguments: `cas`, 0 for none, `extras`, `key` and `value`.
    """

    __slots__ = ("stream", "max_item_size", "users", "awaits_step", "skip", "reply_after_skip", "_is_authenticated", "_header")

    def __init__(self, max_item_size: int, users: Any = None, is_authenticated: bool = False) -> None:
        self.stream = RecvBuffer()
        self.max_item_size = max_item_size
        self.users = users
        self._is_authenticated = is_authenticated  # has logged in
        self.awaits_step = False  # a login has begun with a mechanism only; the user and password must follow in a step
        self.skip = 0  # bytes of a refused packet that are still to be discarded
        self.reply_after_skip: Request | None = None  # the request with the reply to it
        self._header = PacketHeader()

    def is_authenticated(self) -> bool:
        return self.users is None or self._is_authenticated

    def is_between_messages(self) -> bool:
        return self.skip == 0 and not self.awaits_step and self.stream.size() == 0

    def next_request(self) -> Request | None:
        stream = self.stream
        if self.skip:
            return self._skip_refused_body()
        if not stream.has_news():
            return None
        start = stream.pos
        if stream.end - start < HEADER_SIZE:
            stream.need = HEADER_SIZE
            return None
        header = self._header
        header.parse(stream, start)
        if header.magic != REQUEST:
            raise BadPacket
        key_length = header.key_length
        extras_length = header.extras_length
        body_length = header.body_length
        operation = OPERATIONS.get(header.opcode, UNKNOWN)
        renderer = new_renderer(operation, header.opcode, header.opaque)
        value_length = body_length - key_length - extras_length
        # The order of the checks is that of memcached 1.6.18: it decides the status of the reply. operation.has_key is None if a key is optional.
        if value_length < 0:
            raise BadPacket(renderer.error_packet(UNKNOWN_COMMAND))
        if self.users is not None and not self._is_authenticated and operation.kind not in OPEN_TO_ALL:
            raise BadPacket(renderer.error_packet(REFUSED))
        if key_length > MAX_KEY:
            raise BadPacket(renderer.error_packet(INVALID))
        if operation is UNKNOWN or (self.users is None and operation.kind in LOGIN_KINDS):
            return self._refuse_body(renderer, UNKNOWN_COMMAND, body_length)
        if extras_length not in operation.extras or operation.has_key is (key_length == 0) or (value_length and not operation.has_value):
            raise BadPacket(renderer.error_packet(INVALID))
        if operation.kind == "login" and value_length > limits.MAX_LOGIN:
            return self._refuse_body(renderer, INVALID, body_length)
        key_start = start + HEADER_SIZE + extras_length
        if value_length > self.max_item_size:
            if stream.end < key_start + key_length:
                stream.need = HEADER_SIZE + extras_length + key_length
                return None
            return self._refuse_large(renderer, stream.cut(key_start, key_start + key_length), body_length)
        after = start + HEADER_SIZE + body_length
        if after > stream.end:
            stream.need = HEADER_SIZE + body_length
            return None
        stream.pos = after
        key = stream.cut(key_start, key_start + key_length)
        if operation.kind == "get" and stream.is_text(key_start, key_start + key_length):
            return self._get_text(renderer, key)
        extras = stream.cut(start + HEADER_SIZE, key_start)
        request: Request = getattr(self, "_" + operation.kind)(renderer, header.cas, extras, key, stream.cut(key_start + key_length, after))
        return request

    # -- bodies that are discarded

    def _refuse_body(self, renderer: PacketRenderer, status: int, length: int) -> Request | None:
        """Discard the header and the body of `length` bytes, after which the reply is `status`."""
        self.skip = HEADER_SIZE + length
        self.reply_after_skip = local_reply(renderer.error_packet(status))
        return self._skip_refused_body()

    def _refuse_large(self, renderer: PacketRenderer, key: bytes, length: int) -> Request | None:
        """As _refuse_body for a value that is too large. A set deletes the old item, as in memcached."""
        self.skip = HEADER_SIZE + length
        self.reply_after_skip = local_reply(renderer.error_packet(TOO_LARGE))
        operation = renderer.operation
        word, flag = _word(key)
        if operation.kind != "store" or operation.mode or len(word) > MAX_KEY:
            return self._skip_refused_body()
        request = new_request(META_DELETE, key, b"md %b%b\r\n" % (word, flag))
        request.quiet = True
        return request

    def _skip_refused_body(self) -> Request | None:
        self.stream.need = 0
        self.skip -= self.stream.discard(self.skip)
        return self.reply_after_skip if self.skip == 0 else None

    # -- reads

    def _get_text(self, renderer: PacketRenderer, key: bytes) -> Request:
        """A get of a key that the text protocol can have, joined with the quiet gets behind it if it is quiet."""
        if renderer.operation.quiet:
            renderers = [renderer]
            keys = [key]
            while len(keys) < limits.MAX_QUIET_GETS and self._add_quiet_get(renderers, keys):
                pass
            if len(keys) > 1:
                request = new_request(GETS, key, b"gets ")
                request.keys = KeyList(keys)
                request.renderer = PacketSequenceRenderer(renderers)
                return request
        request = new_request(GETS, key, b"gets " + key + CRLF)
        request.renderer = renderer
        return request

    def _add_quiet_get(self, renderers: list[PacketRenderer], keys: list[bytes]) -> bool:
        """Add the next packet to `renderers` and `keys` if it is complete and a get that can be joined. Returns False if it was not added, or is not
        quiet: no more may follow."""
        stream = self.stream
        start = stream.pos
        if stream.end - start < HEADER_SIZE:
            return False
        header = self._header
        header.parse(stream, start)
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
        renderers.append(new_renderer(operation, header.opcode, header.opaque))
        return operation.quiet

    def _get(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        """A get of a key that the text protocol cannot have."""
        return _meta_request(META_GET, renderer, b"mg", key, b"", b" f c v")

    def _touch(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        exptime = _exptime(*NUMBER.unpack(extras))
        return _meta_request(META_TOUCH, renderer, b"mg", key, b"", b" T%d f c%b" % (exptime, renderer.operation.mode))

    # -- writes

    def _store(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        flags, exptime = STORE_EXTRAS.unpack(extras)
        mode = renderer.operation.mode
        if cas:  # then memcached ignores the mode
            mode = b" C%d" % cas
        command = META_SET_IF if mode else META_SET
        returned = b"" if renderer.operation.quiet else b" c"
        return _meta_request(
            command, renderer, b"ms", key, b" %d" % len(value), b"%b T%d F%d%b" % (mode, _exptime(exptime), flags, returned), value
        )

    def _extend(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        command = META_SET_IF if cas else META_EXTEND
        condition = b" C%d" % cas if cas else b""
        returned = b"" if renderer.operation.quiet else b" c"
        return _meta_request(command, renderer, b"ms", key, b" %d" % len(value), renderer.operation.mode + condition + returned, value)

    def _delete(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        return _meta_request(META_DELETE_IF if cas else META_DELETE, renderer, b"md", key, b"", b" C%d" % cas if cas else b"")

    def _count(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        delta, initial, exptime = COUNT_EXTRAS.unpack(extras)
        flags = b"%b D%d v c" % (renderer.operation.mode, delta)
        if exptime != NO_INITIAL:
            flags += b" N%d J%d" % (_exptime(exptime), initial)
        if cas:
            flags += b" C%d" % cas
        return _meta_request(META_COUNT_IF if cas else META_COUNT, renderer, b"ma", key, b"", flags)

    # -- login

    def _mechanisms(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        return local_reply(renderer.packet(value=PLAIN))

    def _login(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        """SASL: `auth` has the mechanism as its key, and user and password as its value; or no value, then a `step` with them follows."""
        is_step = renderer.operation.mode == b"step"
        is_expected = key == PLAIN and (self.awaits_step or not is_step)
        self._is_authenticated = self.awaits_step = False
        if is_expected and not value and not is_step:
            self.awaits_step = True
            return local_reply(renderer.packet(GO_ON))
        words = value.split(b"\0")
        if not is_expected or len(words) != 3:
            return local_reply(renderer.error_packet(REFUSED))
        if not self.users.allow(words[1], words[2]):
            return new_request(WRONG_PASSWORD, b"", renderer.error_packet(REFUSED))
        self._is_authenticated = True
        return new_request(LOGIN, b"", renderer.packet(value=b"Authenticated"))

    # -- without a key

    def _flush(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        delay = _exptime(*NUMBER.unpack(extras)) if extras else 0
        return _command_request(renderer, b"flush_all %d\r\n" % delay if delay else b"flush_all\r\n", [])

    def _stat(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        return _command_request(renderer, b"", [word for word in key.split(b" ") if word])

    def _version(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        return _command_request(renderer, b"", [])

    def _quit(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        return _command_request(renderer, b"", [])

    def _noop(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        """The session sends the reply after those to all earlier requests."""
        return local_reply(renderer.packet())

    def _verbosity(self, renderer: PacketRenderer, cas: int, extras: bytes, key: bytes, value: bytes) -> Request:
        """Accepted and ignored, as in the text protocol."""
        return local_reply(renderer.packet())


def _word(key: bytes) -> tuple[bytes, bytes]:
    """(word, flag): the key as it is in the line of a meta command, and b" b" if it is in base64."""
    return (key, b"") if is_text(key) else (encoded(key), b" b")


def _exptime(number: int) -> int:
    return min(number, MAX_EXPTIME)


def _command_request(renderer: PacketRenderer, line: bytes, words: list[bytes]) -> Request:
    """The request for a command without a key. `words`: what is behind its name, for commands to which gmproxy itself replies."""
    request = new_request(renderer.operation.command, b"", line)
    request.keys = words
    request.renderer = renderer
    return request


def _meta_request(
    command: Command, renderer: PacketRenderer, name: bytes, key: bytes, length: bytes, flags: bytes, value: bytes | None = None
) -> Request:
    """The request for the meta command `name`. `length` and `flags` are parts of the line, with a blank before each word. If the key is too long in
    base64, the request already has a reply."""
    word, flag = _word(key)
    if len(word) > MAX_KEY:
        return local_reply(renderer.error_packet(INVALID))
    line = b"%b %b%b%b%b\r\n" % (name, word, length, flag, flags)
    request = new_request(command, key, line if value is None else line + value + CRLF)
    request.renderer = renderer
    return request

"""The meta commands: from the words of a line to a request. requests.py finds the line, and the data block of ms.

The server is sent the flags of the client except `q`: it replies to a quiet command as to any other, and what the client is not to receive is
suppressed when the reply is rendered. So the reply, including opaque and key, is that of the server.

What no version of memcached accepts is refused here, with the error line of 1.6.45, and not sent. A number that only 1.6.18 accepts is written
in the form that all accept. Flags that only some versions know, such as E and x, which 1.6.18 does not, and unknown flags are sent: the server
decides.
"""

import re
from binascii import a2b_base64, b2a_base64
from typing import Any

from gmproxy.protocol import limits
from gmproxy.protocol.commands import (
    META_COUNT_IF,
    META_DELETE_IF,
    META_EXTEND,
    META_GET,
    META_SET_IF,
    META_TOUCH,
    META_WIN,
    META_WIN_AND_TOUCH,
    Command,
)
from gmproxy.protocol.numbers import as_int32, c_number
from gmproxy.protocol.request import ReplyRenderer, Request, local_reply, new_request

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_KEY = b"CLIENT_ERROR error decoding key\r\n"
BAD_FLAG = b"CLIENT_ERROR invalid or duplicate flag\r\n"
TOO_MANY_FLAGS = b"CLIENT_ERROR options flags are too long\r\n"
INVALID = b"CLIENT_ERROR invalid flag\r\n"
DUPLICATE = b"CLIENT_ERROR duplicate flag\r\n"
BAD_MODE = b"CLIENT_ERROR invalid mode for %b M token\r\n"
OPAQUE_TOO_LONG = b"CLIENT_ERROR opaque token too long\r\n"
LINE_TOO_LONG = b"CLIENT_ERROR line too long\r\n"
MISS = b"EN\r\n"

#: Letter of a flag with a number -> (minimum, maximum, memcached's error line for any other word).
_NUMBERS = {
    b"T": (-(2**63), 2**63 - 1, BAD_TOKEN),
    b"N": (-(2**63), 2**63 - 1, BAD_TOKEN),
    b"R": (-(2**63), 2**63 - 1, BAD_TOKEN),
    b"C": (0, 2**64 - 1, BAD_TOKEN),
    b"E": (0, 2**64 - 1, BAD_TOKEN),
    b"F": (0, 2**64 - 1, BAD_FORMAT),
    b"J": (0, 2**64 - 1, b"CLIENT_ERROR invalid numeric initial value\r\n"),
    b"D": (0, 2**64 - 1, b"CLIENT_ERROR invalid numeric delta value\r\n"),
}

#: Letters of the flags that are times: memcached stores them as signed numbers of 32 bits.
_TIMES = frozenset((b"T", b"N", b"R"))

#: Bytes, including the letter: a flag of at most this length with digits only is sent as it is, since its number has at most 31 bits.
_SHORT_NUMBER = 10

#: Bytes with which a word can begin that is a flag. memcached 1.6.45 refuses an ms with any other without its data block, which it then parses
#: as commands: so such a line is not sent.
_MAY_BE_FLAGS = frozenset(bytes((byte,)) for byte in b"0123456789" + bytes(range(b"A"[0], b"z"[0] + 1)))

#: Letters of the flags that memcached 1.6.45 knows.
_KNOWN = frozenset(letter.encode() for letter in "bNTRlOPLkstcfvhuqFCMJDIEx")

#: Modes of ms: none, add, append, prepend, replace, set; and of ma: none, increment (two), decrement (two). None: the command has no M.
_MODES = {b"ms": (b"", b"E", b"A", b"P", b"R", b"S"), b"ma": (b"", b"I", b"+", b"D", b"-")}

#: Bytes of an M with its mode: what follows in the word is ignored by memcached 1.6.45.
MODE_SIZE = 2

#: The mode of an M without a mode, which is invalid.
NO_MODE = b"?"

#: Modes of ms that store only if the item does not exist, or only if it does.
_CONDITIONAL_MODES = (b"E", b"R")

#: Modes of ms that append or prepend.
_ADDING_MODES = (b"A", b"P")

#: Name of a command -> how the replies begin that a client with q does not receive.
_SUPPRESSED = {b"mg": (b"EN",), b"ms": (b"HD",), b"md": (b"HD",), b"ma": (b"HD", b"VA")}

_CONDITIONAL = {b"ms": META_SET_IF, b"md": META_DELETE_IF, b"ma": META_COUNT_IF}

#: Maximum number of MetaForms that are cached for each command, and of bytes in the flags of one: clients repeat a few forms.
MAX_FORMS = 256
MAX_FORM_SIZE = 64

#: Flags that are not cached, since they differ from command to command: for the key (b), the item (C, E) or the request (O).
_OF_ONE_COMMAND = re.compile(rb" [bCEO]")

#: Bytes that memcached ignores in base64.
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")


def is_text(key: bytes) -> bool:
    """True if `key` can be in a command line as it is."""
    return limits.NOT_TEXT.search(key) is None


def encoded(key: bytes) -> bytes:
    """`key` in base64."""
    return b2a_base64(key, newline=False)


def decoded(word: bytes) -> bytes:
    """The key that memcached decodes from `word`, which is in base64; b"" if it is invalid. memcached ignores what follows the first padding."""
    letters = _NOT_BASE64.sub(b"", word)
    if len(letters) % 4:
        return b""
    padding = letters.find(b"=")
    if padding < 0:
        return a2b_base64(letters)
    end = padding - padding % 4 + 4
    missing = letters.count(b"=", padding, end)
    return a2b_base64(letters[:end].replace(b"=", b"A"))[:-missing] if missing < 3 else b""


class MetaReplyRenderer(ReplyRenderer):
    """Suppresses the replies that a client with q is not to receive, and completes the reply for a miss, of which gmproxy has only the EN.

    suppressed  how the replies begin that are suppressed (a tuple, for bytes.startswith)
    tail        what follows EN in memcached's reply for a miss: the opaque and the key, if the command has O and k, with a blank before each
    """

    __slots__ = ("suppressed", "tail")

    def __init__(self, suppressed: tuple[bytes, ...], tail: bytes) -> None:
        self.suppressed = suppressed
        self.tail = tail

    def render(self, request: Request) -> bytes:
        reply = request.reply
        if reply.startswith(self.suppressed):
            return b""
        return b"EN%b\r\n" % self.tail if self.tail and reply == MISS else reply


class MetaCommand:
    """A parsed meta command.

    word      the key as it is sent to the server; with the flag b in base64, encoded again
    key       the key as the server stores it
    flags     the flags that are sent to the server, with their arguments
    error     memcached's error line for the command, or None if it is valid
    """

    __slots__ = ("name", "word", "key", "flags", "error", "mode", "quiet", "has_cas", "touches", "may_recache", "opaque_too_long",
                 "returns_key_or_opaque", "is_known", "rewritten", "malformed")  # fmt: skip

    def __init__(self, name: bytes, word: bytes, flags: list[bytes]) -> None:
        self.name = name
        self.word = word
        self.key = word
        self.flags: list[bytes] = []
        self.error: bytes | None = None
        self.mode = b""
        self.quiet = False
        self.has_cas = False  # the cas number of the item must be that of the command
        self.touches = False
        self.may_recache = False  # the reply can give the client the right to recache
        self.opaque_too_long = False
        self.returns_key_or_opaque = False  # the reply contains the opaque or the key
        self.is_known = True  # memcached 1.6.45 knows all its flags
        self.rewritten = False  # some of `flags` differ from those of the client
        self.malformed = False  # a word cannot be a flag
        self._parse_flags(flags)
        if self.error is None:
            self._validate()
        # In memcached 1.6.45, these two take precedence over other errors.
        if self.malformed:
            self.error = BAD_FORMAT
        elif self.error is not None and not self.is_known:
            self.error = INVALID

    def _parse_flags(self, flags: list[bytes]) -> None:
        seen: set[bytes] = set()
        for flag in flags:
            letter = flag[:1]
            if letter not in _MAY_BE_FLAGS:
                self.malformed = True
                return
            if letter in seen:
                self.error = DUPLICATE
            if self.error is DUPLICATE:
                continue  # a malformed flag behind it takes precedence
            seen.add(letter)
            if letter == b"q":
                self.quiet = True
                continue
            if letter in _NUMBERS:
                flag = self._parse_number_flag(letter, flag)
            elif letter == b"M" and len(flag) != MODE_SIZE:
                self.rewritten = True
                flag = flag[:MODE_SIZE]
            self.flags.append(flag)
            if letter == b"b":
                self.key = decoded(self.word)
                self.word = encoded(self.key)
                if not self.key:
                    self.error = BAD_KEY
            elif letter == b"O":
                self.returns_key_or_opaque = True
                self.opaque_too_long = len(flag) > limits.MAX_OPAQUE
            elif letter == b"k":
                self.returns_key_or_opaque = True
            elif letter == b"M":
                self.mode = flag[1:] or NO_MODE
            elif letter not in _KNOWN:
                self.is_known = False

    def _parse_number_flag(self, letter: bytes, flag: bytes) -> bytes:
        """`flag` as it is sent to the server: its number in decimal without anything else, so that the server and routing parse the same number."""
        least, most, error = _NUMBERS[letter]
        number = c_number(flag[1:], least, most)
        if number is None:
            self.error = self.error if error is BAD_FORMAT and self.error else error
        elif len(flag) > _SHORT_NUMBER or not flag[1:].isdigit():
            if letter in _TIMES:
                number = as_int32(number)
            elif letter == b"F":
                number %= 2**32
            plain = letter + b"%d" % number
            self.rewritten = self.rewritten or plain != flag
            flag = plain
        if letter == b"T":
            self.touches = True
        elif letter in (b"N", b"R"):
            self.may_recache = True
        elif letter == b"C":
            self.has_cas = True
        return flag

    def _validate(self) -> None:
        if self.mode not in _MODES.get(self.name, (self.mode,)):
            self.error = BAD_MODE % self.name
        elif self.opaque_too_long:
            self.error = OPAQUE_TOO_LONG
        elif sum(map(len, self.flags)) > limits.MAX_META_FLAGS:
            self.error = LINE_TOO_LONG

    def command(self, command: Command) -> Command:
        """The variant of `command`, the Command with this name, for these flags."""
        if command.is_read:
            if self.may_recache:
                return META_WIN_AND_TOUCH if self.touches else META_WIN
            return META_TOUCH if self.touches else META_GET
        if self.has_cas or (self.name == b"ms" and self.mode in _CONDITIONAL_MODES):
            return _CONDITIONAL[self.name]
        if self.mode in _ADDING_MODES and self.name == b"ms":
            return META_EXTEND
        return command

    def renderer(self) -> MetaReplyRenderer | None:
        """The MetaReplyRenderer for the reply, or None if the client receives it as it is."""
        tail = self._tail() if self.returns_key_or_opaque and self.name == b"mg" else b""
        if not self.quiet and not tail:
            return None
        return MetaReplyRenderer(_SUPPRESSED[self.name] if self.quiet else (), tail)

    def _tail(self) -> bytes:
        """MetaReplyRenderer.tail."""
        key = self.word if self.key is self.word else self.word + b" b"
        tail = b""
        for flag in self.flags:
            if flag[:1] == b"k":
                tail += b" k" + key
            elif flag[:1] == b"O":
                tail += b" " + flag
        return tail


class MetaForm:
    """The flags of a command, parsed once for all commands that have the same: parsing took most of the time of a meta command (the benchmark's curve
    of protocols).

    command     the variant of the Command for these flags
    is_store    True for ms
    is_unchanged  True: the server is sent the flags as the client wrote them
    end         the end of the line that the server is sent: each flag with a blank before it, then CRLF
    """

    __slots__ = ("command", "is_store", "is_unchanged", "end", "_renderer", "_returns_key")

    def __init__(self, command: Command, parsed: MetaCommand) -> None:
        """`parsed`: a `command` with these flags and any key."""
        self.command = parsed.command(command)
        self.is_store = command.kind == "meta_set"
        self.is_unchanged = not (parsed.quiet or parsed.rewritten)
        self.end = b"".join([b" " + flag for flag in parsed.flags]) + b"\r\n"
        self._renderer: Any = parsed.renderer()
        self._returns_key = parsed.returns_key_or_opaque and command.name == b"mg"

    def renderer(self, key: bytes) -> MetaReplyRenderer | None:
        """As MetaCommand.renderer, for a command with `key`."""
        return MetaReplyRenderer(self._renderer.suppressed, b" k" + key) if self._returns_key else self._renderer


class MetaForms:
    """A cache of MetaForms."""

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        # Name of a command -> its flags as the client wrote them, from the blank before them on -> their MetaForm
        self._forms: dict[bytes, dict[bytes, MetaForm]] = {b"mg": {}, b"ms": {}, b"md": {}, b"ma": {}}

    def form_for(self, command: Command, flags: bytes) -> MetaForm | None:
        """The MetaForm for the `flags` of a command, each with one blank before it; None if they are not cached: MetaCommand must parse them."""
        forms = self._forms.get(command.name)
        if forms is None:
            return None
        form = forms.get(flags)
        return self._parse_form(command, flags, forms) if form is None else form

    def _parse_form(self, command: Command, flags: bytes, forms: dict[bytes, MetaForm]) -> MetaForm | None:
        """As `form_for`, for flags that are not in `forms`: adds them."""
        if len(flags) > MAX_FORM_SIZE or _OF_ONE_COMMAND.search(flags):
            return None
        words = flags.split(b" ")[1:]
        if b"" in words:
            return None
        parsed = MetaCommand(command.name, b"key", words)
        max_words = limits.MAX_META_SET_WORDS - 3 if command.name == b"ms" else limits.MAX_META_WORDS - 2
        if parsed.error is not None or not parsed.is_known or len(words) > max_words:
            return None
        if len(forms) >= MAX_FORMS:
            forms.clear()
        forms[flags] = MetaForm(command, parsed)
        return forms[flags]


META_FORMS = MetaForms()


def join_words(*words: bytes) -> bytes:
    """The command line with these words, CRLF included."""
    return b" ".join(words) + b"\r\n"


def parse_meta_command(command: Command, words: list[bytes]) -> Request:
    """The request for the `words` of mg, md or ma; it already has a reply if the command is invalid."""
    name = command.name
    if len(words[1]) > limits.MAX_KEY:
        return local_reply(BAD_FLAG if name == b"ma" else BAD_FORMAT)
    if len(words) > limits.MAX_META_WORDS:
        return local_reply(TOO_MANY_FLAGS)
    parsed = MetaCommand(name, words[1], words[2:])
    error = parsed.error
    if error is not None:
        flags_are_bad = name == b"ma" and not parsed.malformed and error not in (BAD_MODE % name, OPAQUE_TOO_LONG, LINE_TOO_LONG)
        return local_reply(BAD_FLAG if flags_are_bad else error)
    request = new_request(parsed.command(command), parsed.key, join_words(name, parsed.word, *parsed.flags))
    request.renderer = parsed.renderer()
    return request


def parse_meta_debug(command: Command, words: list[bytes]) -> Request:
    """The request for the `words` of me, which has no flags except a b directly behind the key; as parse_meta_command."""
    word = words[1] if len(words) > 1 else b""
    if len(word) > limits.MAX_KEY:
        return local_reply(BAD_FORMAT)
    if words[2:3] != [b"b"]:
        return new_request(command, word, join_words(command.name, word)) if word else local_reply(BAD_FORMAT)
    key = decoded(word)
    return new_request(command, key, join_words(command.name, encoded(key), b"b")) if key else local_reply(BAD_FORMAT)

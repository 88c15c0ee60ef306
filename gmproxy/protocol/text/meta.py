"""The meta commands: the words of a line in, a request out.

They belong to the text protocol and stand among its commands, so requests.py parses the line and the data block of `ms`. The server gets
the flags as the client wrote them, but for `q`: a quiet command is answered like any other, and a reply that the client does not
want is suppressed on its way to it. So the reply, opaque and key included, is the server's own.

What no memcached accepts is refused here, in the words of 1.6.45 and before the server is asked; a number that only 1.6.18 accepts is
written plainly. What some servers do not know, as 1.6.18 does not know E and x, and flags that nobody knows yet, are for the server to judge.
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

#: Flags with a number: from, to, and what memcached says of another one.
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

#: Flags that are times: memcached keeps 32 signed bits of them.
_TIMES = frozenset((b"T", b"N", b"R"))

#: A number of at most this many bytes, flag included, that is digits only is written plainly and below 2^31.
_SHORT_NUMBER = 10

#: What a flag may begin with. memcached 1.6.45 refuses an ms with any other before it has read the data block, which it then takes for
#: commands: no such line is handed on.
_MAY_BE_FLAGS = frozenset(bytes((byte,)) for byte in b"0123456789" + bytes(range(b"A"[0], b"z"[0] + 1)))

#: Flags that memcached 1.6.45 knows.
_KNOWN = frozenset(letter.encode() for letter in "bNTRlOPLkstcfvhuqFCMJDIEx")

#: Modes of ms: none, add, append, prepend, replace, set; and of ma: none, up, down. None is only the mode of a command without an M.
_MODES = {b"ms": (b"", b"E", b"A", b"P", b"R", b"S"), b"ma": (b"", b"I", b"+", b"D", b"-")}

#: Bytes of a flag that says the mode: what follows, memcached 1.6.45 ignores.
MODE_SIZE = 2

#: The mode of an M without one, which is in no list.
NO_MODE = b"?"

#: Modes of ms that look at what is there before they store.
_CONDITIONAL_MODES = (b"E", b"R")

#: Modes of ms that add to what is there.
_ADDING_MODES = (b"A", b"P")

#: How the replies begin that a client does not get if it says q.
_SUPPRESSED = {b"mg": (b"EN",), b"ms": (b"HD",), b"md": (b"HD",), b"ma": (b"HD", b"VA")}

_CONDITIONAL = {b"ms": META_SET_IF, b"md": META_DELETE_IF, b"ma": META_COUNT_IF}

#: MetaForms that are remembered for each command; a client says the same few again and again. And the bytes of flags in one.
MAX_FORMS = 256
MAX_FORM_SIZE = 64

#: What is not worth to remember: it belongs to one key (b), one item (C, E) or one question (O).
_OF_ONE_COMMAND = re.compile(rb" [bCEO]")

#: What memcached passes over in base64.
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")


def is_text(key: bytes) -> bool:
    """True if `key` may stand in a line as it is."""
    return limits.NOT_TEXT.search(key) is None


def encoded(key: bytes) -> bytes:
    """`key` in base64."""
    return b2a_base64(key, newline=False)


def decoded(word: bytes) -> bytes:
    """The key that memcached reads from a `word` in base64, or b"" if it reads none. It stops after the first padding."""
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
    """Suppresses the replies that a client that said q does not want, and completes a miss that no server gave.

    suppressed  how the replies begin that are suppressed (a tuple)
    tail        what memcached says after the EN of a miss: the opaque and the key, if they were asked for
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
    """A meta command taken apart, its flags read in the order in which memcached reads them.

    word      the key as it stands in the line, in base64 if that is another
    key       the key as the server stores it
    flags     those that the server gets
    error     what memcached says of it, or None
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
        self.has_cas = False  # has a cas number that must be the item's
        self.touches = False
        self.may_recache = False  # a reply may give it the right to recache
        self.opaque_too_long = False
        self.returns_key_or_opaque = False  # the reply has an opaque or the key
        self.is_known = True  # memcached 1.6.45 knows all its flags
        self.rewritten = False  # some of `flags` are not as the client wrote them
        self.malformed = False  # has a word that cannot be a flag
        self._parse_flags(flags)
        if self.error is None:
            self._validate()
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
                continue  # only what cannot be a flag is still looked for
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
                self.mode = flag[1:] or NO_MODE  # a server looks at no more than one letter
            elif letter not in _KNOWN:
                self.is_known = False

    def _parse_number_flag(self, letter: bytes, flag: bytes) -> bytes:
        """`flag` as the server gets it: its number written plainly, so that the server, and code that computes with it here, reads it as this
        does."""
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
        """What `command` becomes by the flags."""
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
        """The MetaReplyRenderer for it, or None if the client gets the server's reply as it is."""
        tail = self._tail() if self.returns_key_or_opaque and self.name == b"mg" else b""
        if not self.quiet and not tail:
            return None
        return MetaReplyRenderer(_SUPPRESSED[self.name] if self.quiet else (), tail)

    def _tail(self) -> bytes:
        key = self.word if self.key is self.word else self.word + b" b"
        tail = b""
        for flag in self.flags:
            if flag[:1] == b"k":
                tail += b" k" + key
            elif flag[:1] == b"O":
                tail += b" " + flag
        return tail


class MetaForm:
    """What the flags of a command come to, as long as each holds for whatever key. Most commands are in a form that was
    read before: to take each apart took most of what a meta command cost (the benchmark's curve of protocols).

    command     what the command is by them (a Command)
    is_store    True for an ms
    is_unchanged  True: the server gets them as the client wrote them
    end         what the server gets from the flags on: each with a blank before it, then CRLF
    """

    __slots__ = ("command", "is_store", "is_unchanged", "end", "_renderer", "_returns_key")

    def __init__(self, command: Command, parsed: MetaCommand) -> None:
        """The form in which this `parsed` of `command` is written."""
        self.command = parsed.command(command)
        self.is_store = command.kind == "meta_set"
        self.is_unchanged = not (parsed.quiet or parsed.rewritten)
        self.end = b"".join([b" " + flag for flag in parsed.flags]) + b"\r\n"
        self._renderer: Any = parsed.renderer()
        self._returns_key = parsed.returns_key_or_opaque and command.name == b"mg"

    def renderer(self, key: bytes) -> MetaReplyRenderer | None:
        """The MetaReplyRenderer for a command about `key`, or None."""
        return MetaReplyRenderer(self._renderer.suppressed, b" k" + key) if self._returns_key else self._renderer


class MetaForms:
    """The forms of commands that were read before."""

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        # The name of a command -> its flags as they are written, from the blank before them on -> their MetaForm
        self._forms: dict[bytes, dict[bytes, MetaForm]] = {b"mg": {}, b"ms": {}, b"md": {}, b"ma": {}}

    def form_for(self, command: Command, flags: bytes) -> MetaForm | None:
        """The MetaForm for the `flags` of a command, each with one blank before it; None if they have to be looked at each time."""
        forms = self._forms.get(command.name)
        if forms is None:
            return None
        form = forms.get(flags)
        return self._parse_form(command, flags, forms) if form is None else form

    def _parse_form(self, command: Command, flags: bytes, forms: dict[bytes, MetaForm]) -> MetaForm | None:
        """As `form_for`, and the form is in `forms` from now on."""
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
    return b" ".join(words) + b"\r\n"


def parse_meta_command(command: Command, words: list[bytes]) -> Request:
    """The request for the `words` of an mg, md or ma; answered already if it is refused."""
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
    """The request for an me, which knows no flag but a b in the first place."""
    word = words[1] if len(words) > 1 else b""
    if len(word) > limits.MAX_KEY:
        return local_reply(BAD_FORMAT)
    if words[2:3] != [b"b"]:
        return new_request(command, word, join_words(command.name, word)) if word else local_reply(BAD_FORMAT)
    key = decoded(word)
    return new_request(command, key, join_words(command.name, encoded(key), b"b")) if key else local_reply(BAD_FORMAT)

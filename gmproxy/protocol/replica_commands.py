"""What a backup is sent for a write if it is not a copy of what the primary was sent, and what the reply of the backup means.

A `(command, key, line)` is that of a Request.
"""

import time

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS, META_TOUCH, Command
from gmproxy.protocol.meta_header import MetaHeader
from gmproxy.protocol.numbers import c_number
from gmproxy.protocol.request import Request

SET = COMMANDS[b"set"]
TOUCH = COMMANDS[b"touch"]

#: Where the exptime is in a command line: the index of its word. append, prepend, incr, decr and delete have none.
EXPTIME_AT = {b"set": 3, b"add": 3, b"replace": 3, b"cas": 3, b"touch": 2, b"gat": 1, b"gats": 1}

#: Flags of meta commands that set the exptime. The N of an mg is that of an item which the mg makes.
EXPTIME_FLAGS = (b"T", b"N")
_EXPTIME_FLAGS_OF = {b"ms": (b"T",), b"mg": (b"T",), b"ma": EXPTIME_FLAGS}

#: Commands after which no server has the value of the key, whatever their exptime is.
_DELETE = frozenset((b"delete", b"md", b"flush_all"))

#: Flags of a conditional meta command that the backup is not sent: its condition, and what the reply is to contain.
_CONDITION = (b"C", b"E", b"c", b"k", b"O", b"t", b"v")

#: The modes of ms that append or prepend. After any other, the primary has the value of the ms: so the backup is sent a plain one.
_ADDING_MODES = (b"MA", b"MP")


def touch_command(request: Request, key: bytes) -> tuple[Command, bytes, bytes]:
    """(command, key, line) that sets the exptime of `key` as `request` does, a read that touches: the backup need not return the value."""
    if request.command.is_meta:
        words = request.line[:-2].split(b" ")
        flags = [word for word in words[2:] if word[:1] in (b"b", b"T")]
        return META_TOUCH, key, b" ".join([*words[:2], *flags]) + b"\r\n"
    exptime = request.line.split(b" ", 2)[1]
    return TOUCH, key, b"touch %b %b\r\n" % (key, exptime)


def is_delete_like(request: Request) -> bool:
    """True if no server is to have the value of the key after `request`: a delete, md or flush_all, or a life that has already passed. An md that
    only marks the item as stale (I) is one, too."""
    return request.command.name in _DELETE or (request.command.is_write and any(_has_passed(word) for word in _exptimes(request)))


def marks_as_stale(request: Request) -> bool:
    """True for a meta command with the flag I: an md that keeps the item as stale, or an ms that may do so."""
    words = request.line.split(b"\r\n", 1)[0].split(b" ")
    return any(word == b"I" for word in words[3 if request.command.name == b"ms" else 2 :])


def changes_value(request: Request) -> bool:
    """True if the write `request` changes the value. A read that touches does so only if its exptime has already passed."""
    return not request.command.is_read or is_delete_like(request)


def flush_delay(request: Request) -> float:
    """The seconds after which servers execute `request`, a flush_all; 0 for at once."""
    words = request.line.split()
    delay = int(words[1]) if len(words) > 1 else 0
    return max(delay - time.time() if delay > limits.LONGEST_RELATIVE_LIFE else delay, 0)


def _exptimes(request: Request) -> list[bytes]:
    """The exptimes in the line of `request`, a write."""
    words = request.line.split(b"\r\n", 1)[0].split(b" ")
    name = request.command.name
    if request.command.is_meta:
        return [word[1:] for word in words[3 if name == b"ms" else 2 :] if word[:1] in _EXPTIME_FLAGS_OF.get(name, ())]
    at = EXPTIME_AT.get(name)
    return [] if at is None else words[at : at + 1]


def _has_passed(word: bytes) -> bool:
    exptime = c_number(word, -(2**63), 2**63 - 1)
    return exptime is None or exptime < 0 or limits.LONGEST_RELATIVE_LIFE < exptime <= time.time()


def unconditional_write(request: Request) -> tuple[Command, bytes, bytes]:
    """(command, key, line) of a conditional write that the primary has done: the same write without the condition."""
    head, _, block = request.line.partition(b"\r\n")
    words = head.split(b" ")
    if not request.command.is_meta:
        return SET, request.key, b"set %b\r\n%b" % (b" ".join(words[1:5]), block)
    arguments = 3 if words[0] == b"ms" else 2
    flags = [word for word in words[arguments:] if word[:1] not in _CONDITION]
    if words[0] == b"ms":
        flags = [word for word in flags if word[:1] not in (b"I", b"M") or word in _ADDING_MODES]
    return COMMANDS[words[0]], request.key, b" ".join(words[:arguments] + flags) + b"\r\n" + block


#: How a reply of a backup begins that does not have the key: so it cannot return a stale value.
_ABSENT = (b"NOT_FOUND", b"NOT_STORED", b"NF", b"NS")

#: Writes after which primary and backup cannot have different values of the key, whatever they replied.
_WITHOUT_VALUE = frozenset((b"delete", b"md", b"touch"))


def replies_differ(request: Request, copy: Request) -> bool:
    """True if the replies to a write and to its copy show that the backup has another value than the primary."""
    if copy.command.name in _WITHOUT_VALUE or copy.reply.startswith(_ABSENT):
        return False
    if request.command.conditional and not copy.command.reads_old_value:
        return not copy.reply.startswith(copy.command.success_prefixes)
    return _result(request.reply) != _result(copy.reply) if request.command.is_meta else request.reply != copy.reply


def has_removed_value(request: Request) -> bool:
    """True if the reply to `request` shows that the server has refused to store a value, which is too large or finds no memory, and has removed the
    old value of the key. memcached does so for set, and for ms in all modes."""
    return request.command.name in (b"set", b"ms") and request.reply.startswith(b"SERVER_ERROR")


def _result(reply: bytes) -> tuple[bytes, bytes]:
    """(code, value) of the reply to a meta command, without its flags."""
    header = MetaHeader()
    header.parse(reply)
    return header.code, reply[header.data_start :]


def limit_life(command: Command, line: bytes, max_life: int) -> bytes:
    """The command `line` with a life of at most `max_life` seconds. An exptime that is not a number is left as it is, for the server to reject.
    Raises nothing, whatever the client sent."""
    head, end, block = line.partition(b"\r\n")
    words = head.split(b" ")
    if command.is_meta:
        words = [_limited_flag(word, max_life) if at > 1 else word for at, word in enumerate(words)]
        if command.name == b"ms" and not any(word[:1] == b"T" for word in words[3:]):
            words.append(b"T%d" % max_life)  # without T the item would never expire
    elif EXPTIME_AT.get(command.name, len(words)) < len(words):
        at = EXPTIME_AT[command.name]
        words[at] = _limited(words[at], max_life)
    return b" ".join(words) + end + block


def _limited_flag(word: bytes, max_life: int) -> bytes:
    return word[:1] + _limited(word[1:], max_life) if word[:1] in EXPTIME_FLAGS else word


def _limited(word: bytes, max_life: int) -> bytes:
    exptime = c_number(word, -(2**63), 2**63 - 1)
    if exptime is None:
        return word
    life = exptime - time.time() if exptime > limits.LONGEST_RELATIVE_LIFE else exptime
    return b"%d" % max_life if exptime == 0 or life > max_life else word

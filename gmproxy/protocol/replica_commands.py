"""What a backup is sent for a write, where that is not what the primary was sent, and what its reply means."""

import time

from gmproxy.protocol import limits
from gmproxy.protocol.commands import COMMANDS, META_TOUCH, Command
from gmproxy.protocol.meta_header import MetaHeader
from gmproxy.protocol.numbers import c_number
from gmproxy.protocol.request import Request

SET = COMMANDS[b"set"]
TOUCH = COMMANDS[b"touch"]

#: Flags of a conditional meta command that are not copied: what it compares, and what it wants returned.
_CONDITION = (b"C", b"E", b"c", b"k", b"O", b"t", b"v")

#: The modes of ms that add to what is there. After the others, and after an invalidating ms, the backup has simply the value.
_ADDING_MODES = (b"MA", b"MP")


def touch_command(request: Request, key: bytes) -> tuple[Command, bytes, bytes]:
    """(command, key, line) of what a retrieval does to the life of `key`: the backup need not send the value for that."""
    if request.command.is_meta:
        words = request.line[:-2].split(b" ")
        flags = [word for word in words[2:] if word[:1] in (b"b", b"T")]
        return META_TOUCH, key, b" ".join([*words[:2], *flags]) + b"\r\n"
    exptime = request.line.split(b" ", 2)[1]
    return TOUCH, key, b"touch %b %b\r\n" % (key, exptime)


def changes_value(request: Request) -> bool:
    """True if the change `request` leaves another value than there was, or none. A retrieval only gives the item another life: it changes the
    value if that life is over already."""
    if not request.command.is_read:
        return True
    if request.command.is_meta:
        lives = [word[1:] for word in request.line[:-2].split(b" ")[2:] if word[:1] == b"T"]
    else:
        lives = request.line.split(b" ", 2)[1:2]
    return any(_is_over(life) for life in lives)


def _is_over(word: bytes) -> bool:
    life = c_number(word, -(2**63), 2**63 - 1)
    return life is None or life < 0 or limits.LONGEST_RELATIVE_LIFE < life <= time.time()


def unconditional_write(request: Request) -> tuple[Command, bytes, bytes]:
    """(command, key, line) of a conditional write that the primary has made: the same, without the condition."""
    head, _, block = request.line.partition(b"\r\n")
    words = head.split(b" ")
    if not request.command.is_meta:
        return SET, request.key, b"set %b\r\n%b" % (b" ".join(words[1:5]), block)
    arguments = 3 if words[0] == b"ms" else 2
    flags = [word for word in words[arguments:] if word[:1] not in _CONDITION]
    if words[0] == b"ms":
        flags = [word for word in flags if word[:1] not in (b"I", b"M") or word in _ADDING_MODES]
    return COMMANDS[words[0]], request.key, b" ".join(words[:arguments] + flags) + b"\r\n" + block


#: A backup whose answer begins so does not have the key: whatever the primary said, nothing old can be read there.
_ABSENT = (b"NOT_FOUND", b"NOT_STORED", b"NF", b"NS")

#: Changes that leave no other value on the backup than on the primary, whatever the two answered.
_HARMLESS = frozenset((b"delete", b"md", b"touch"))


def replies_differ(request: Request, copy: Request) -> bool:
    """True if the two answers to a change and to its copy show that the backup has another value than the primary."""
    if copy.command.name in _HARMLESS or copy.reply.startswith(_ABSENT):
        return False
    if request.command.conditional and not copy.command.reads_old_value:
        return not copy.reply.startswith(copy.command.success_prefixes)
    return _essence(request.reply) != _essence(copy.reply) if request.command.is_meta else request.reply != copy.reply


def _essence(reply: bytes) -> tuple[bytes, bytes]:
    """The code of a meta reply, and its value, without what else the client asked for."""
    header = MetaHeader()
    header.parse(reply)
    return header.code, reply[header.data_start :]

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


def changes_value(request: Request) -> bool:
    """True if the write `request` changes the value. A read that touches does so only if its exptime has already passed."""
    if not request.command.is_read:
        return True
    if request.command.is_meta:
        exptimes = [word[1:] for word in request.line[:-2].split(b" ")[2:] if word[:1] == b"T"]
    else:
        exptimes = request.line.split(b" ", 2)[1:2]
    return any(_has_passed(exptime) for exptime in exptimes)


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


def _result(reply: bytes) -> tuple[bytes, bytes]:
    """(code, value) of the reply to a meta command, without its flags."""
    header = MetaHeader()
    header.parse(reply)
    return header.code, reply[header.data_start :]

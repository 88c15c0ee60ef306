"""Cas numbers are tagged by the set of servers that they are from, so that those of one set cannot be mistaken for those of another.

Each memcached counts its cas numbers by itself, so on the backup, a number of the primary may belong to another value. A `cas` with it
would overwrite a write that its client has not seen. So a number from another set than the main one has the index of its set in its bits 56 to 62
when a client receives it: the numbers of servers do not become that large. A number that a client sends with this mark is sent to that set only,
without the mark. Any other belongs to the main set. For another set than its own a number is not sent at all: gmproxy replies EXISTS, or EX.

A *set* is the index of a ServerSet (gmproxy.routing.sets): 0 is the main set, with the primaries.
"""

from gmproxy.protocol.meta_header import replace_cas
from gmproxy.protocol.numbers import c_number
from gmproxy.protocol.request import Request
from gmproxy.protocol.text.meta import encoded
from gmproxy.protocol.value_blocks import values_in

SHIFT = 56
MARKS = 0x7F << SHIFT

#: The set of the primaries, whose numbers have no mark, and the next one: that of the backups, or the first replica.
PRIMARY_SET, BACKUP_SET = range(2)


def mark(request: Request, of_set: int) -> None:
    """Mark the cas numbers in the reply to `request`, if there are any, as those of the set `of_set`."""
    command = request.command
    if command.name in (b"gets", b"gats"):
        reply = _mark_values(request.reply, of_set)
    elif command.is_meta and b" c" in request.line.partition(b"\r\n")[0]:
        reply = replace_cas(request.reply, lambda number: marked(number, of_set))
    else:
        return
    if reply is not request.reply:
        request.reply = reply
        request.has_value_offsets = False  # the offsets of the values have changed


def _mark_values(reply: bytes, of_set: int) -> bytes:
    pieces = []
    start = 0
    for header in values_in(reply):
        if header.has_cas:
            before_cas = reply[start : header.data_start].rpartition(b" ")[0]
            pieces.append(b"%b %d\r\n" % (before_cas, marked(header.cas, of_set)))
            pieces.append(reply[header.data_start : header.end])
        else:
            pieces.append(reply[start : header.end])
        start = header.end
    return b"".join(pieces) + reply[start:] if pieces else reply


def marked(number: int, of_set: int) -> int:
    """The cas `number` of a server of the set `of_set`, as a client receives it. One that is marked already stays as it is."""
    return number if number >> SHIFT else number | of_set << SHIFT


def set_of(request: Request, sets: int = 2) -> int | None:
    """The set to which the cas number of `request`, a conditional write, belongs, in a pool with `sets` of them; None if it has no number: an add or
    replace, an ms without C."""
    at = _index_of_number(request)
    if at is None:
        return None
    word = _words(request)[at]
    number = c_number(word[1:] if request.command.is_meta else word, 0, 2**64 - 1) or 0
    of_set = number >> SHIFT
    return of_set if of_set < sets else PRIMARY_SET


def line_without_mark(request: Request) -> bytes:
    """What a server is sent for `request`, a write whose cas number belongs to its set: the line without the mark."""
    at = _index_of_number(request)
    if at is None:
        return request.line
    head, end, block = request.line.partition(b"\r\n")
    words = head.split(b" ")
    letter = b"C" if request.command.is_meta else b""
    words[at] = b"%b%d" % (letter, int(words[at].removeprefix(letter)) & ~MARKS)
    return b" ".join(words) + end + block


def exists_reply(request: Request) -> bytes:
    """The reply to `request`, a write with a cas number, with which memcached refuses another number than that of the item."""
    if not request.command.is_meta:
        return b"EXISTS\r\n"
    words = _words(request)
    flags = words[3:] if request.command.name == b"ms" else words[2:]
    reply = [b"EX"]
    for flag in flags:
        letter = flag[:1]
        if letter == b"O":
            reply.append(flag)
        elif letter == b"k":
            reply.append(b"k%b b" % encoded(request.key) if b"b" in flags else b"k" + request.key)
        elif letter == b"c" and request.command.name == b"ms":
            reply.append(b"c0")
    return b" ".join(reply) + b"\r\n"


def _words(request: Request) -> list[bytes]:
    return request.line.partition(b"\r\n")[0].split(b" ")


def _index_of_number(request: Request) -> int | None:
    """The index of the word of the line that has the cas number: behind the length of a `cas`, or a flag C."""
    if request.command.name == b"cas":
        return 5
    if request.command.is_meta:
        for at, word in enumerate(_words(request)):
            if at > 1 and word[:1] == b"C":
                return at
    return None

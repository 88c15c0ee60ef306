"""Cas numbers of backups are marked, so that they cannot be mistaken for those of their primaries.

Each memcached counts its cas numbers by itself, so on the backup, a number of the primary may belong to another value. A `cas` with it
would overwrite a write that its client has not seen. So a number from a backup has the mark BACKUP_SET in its bits 56 to 62 when a client
receives it: the numbers of servers do not become that large. A number that a client sends is sent to a backup without its mark, if it has this
mark. Any other is replaced by a number that no item has, so the backup replies EXISTS, EX, NOT_FOUND or NF.

A *set* is 0 for the primaries, or BACKUP_SET for the backups.
"""

from gmproxy.protocol.meta_header import replace_cas
from gmproxy.protocol.request import Request
from gmproxy.protocol.value_blocks import values_in

SHIFT = 56
MARKS = 0x7F << SHIFT

#: The mark of the cas numbers of backups.
BACKUP_SET = 1

#: No item ever gets this number.
UNMATCHED = 2**64 - 1


def mark(request: Request, of_set: int) -> None:
    """Mark the cas numbers in the reply to `request`, if there are any, as those of the set `of_set`."""
    command = request.command
    if command.name in (b"gets", b"gats"):
        reply = _mark_values(request.reply, of_set)
    elif command.is_meta and b" c" in request.line.partition(b"\r\n")[0]:
        reply = replace_cas(request.reply, lambda number: _marked(number, of_set))
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
            pieces.append(b"%b %d\r\n" % (before_cas, _marked(header.cas, of_set)))
            pieces.append(reply[header.data_start : header.end])
        else:
            pieces.append(reply[start : header.end])
        start = header.end
    return b"".join(pieces) + reply[start:] if pieces else reply


def _marked(number: int, of_set: int) -> int:
    return number & ~MARKS | of_set << SHIFT


def line_for(request: Request, of_set: int) -> bytes:
    """What a server of the set `of_set` is sent for `request`, a write that compares cas numbers: the line with the cas number of this set, or with
    one that no item has."""
    head, end, block = request.line.partition(b"\r\n")
    words = head.split(b" ")
    if request.command.name == b"cas":
        words[5] = b"%d" % _number_for(words[5], of_set)
    elif request.command.is_meta:
        words = [b"C%d" % _number_for(word[1:], of_set) if at > 1 and word[:1] == b"C" else word for at, word in enumerate(words)]
    return b" ".join(words) + end + block


def _number_for(word: bytes, of_set: int) -> int:
    number = int(word) if word.isdigit() else UNMATCHED
    return number & ~MARKS if number >> SHIFT == of_set else UNMATCHED

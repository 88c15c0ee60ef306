"""Which server gave an item its cas number: a primary's numbers are handed on as they are, those of its backup are marked.

Each memcached counts its cas numbers by itself, so a number of the primary may be that of another value on the backup. A `cas` with it
would overwrite a change that its client has not seen. So a number that a backup gave has the mark BACKUP_SET in its bits 56 to 62, where no
server's own numbers reach; and a number that is sent to a backup must have that mark, which is taken off. A number without it is replaced
by one that no item has: the answer is then the backup's own EXISTS, EX, NOT_FOUND or NF.
"""

from gmproxy.protocol.meta_header import replace_cas
from gmproxy.protocol.request import Request
from gmproxy.protocol.value_blocks import values_in

SHIFT = 56
MARKS = 0x7F << SHIFT

#: The mark of the numbers that backups give.
BACKUP_SET = 1

#: No item ever gets this number.
UNMATCHED = 2**64 - 1


def mark(request: Request, of_set: int) -> None:
    """Mark the cas numbers in the reply of `request` as those of the set `of_set`, if it asked for any."""
    command = request.command
    if command.name in (b"gets", b"gats"):
        reply = _mark_values(request.reply, of_set)
    elif command.is_meta and b" c" in request.line.partition(b"\r\n")[0]:
        reply = replace_cas(request.reply, lambda number: _marked(number, of_set))
    else:
        return
    if reply is not request.reply:
        request.reply = reply
        request.has_value_offsets = False  # the values are in other places now


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
    """The line of `request`, a change on the condition of a cas number, as the set `of_set` gets it: with its own number, or with one that
    matches nothing."""
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

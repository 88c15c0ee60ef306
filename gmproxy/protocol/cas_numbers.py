"""Which server gave an item its cas number: a primary's numbers are handed on as they are, those of its backup are marked.

Each memcached counts its cas numbers by itself, so a number of the primary may be that of another value on the backup. A `cas` with it
would overwrite a change that its client has not seen. So a number that a backup gave has the mark BACKUP_SET in its bits 56 to 62, where no
server's own numbers reach; and a number that is sent to a backup must have that mark, which is taken off. A number without it is replaced
by one that no item has: the answer is then the backup's own EXISTS, EX, NOT_FOUND or NF.
"""

SHIFT = 56
MARKS = 0x7F << SHIFT

#: The mark of the numbers that backups give.
BACKUP_SET = 1

#: No item ever gets this number.
UNMATCHED = 2**64 - 1


def mark(request, of_set):
    """Mark the cas numbers in the answered `request` (a Request) as those of the set `of_set`, if it asked for any."""
    command = request.command
    if command.name in (b"gets", b"gats"):
        reply = _mark_values(request.reply, of_set)
    elif command.is_meta and b" c" in request.line.partition(b"\r\n")[0]:
        reply = _mark_meta(request.reply, of_set)
    else:
        return
    if reply is not request.reply:
        request.reply = reply
        request.has_value_offsets = False  # the values are in other places now


def _mark_values(reply, of_set):
    pieces = []
    pos = 0
    while reply.startswith(b"VALUE ", pos):
        header_end = reply.index(b"\r\n", pos)
        words = reply[pos:header_end].split(b" ")
        after = header_end + 2 + int(words[3]) + 2
        if len(words) > 4:
            words[4] = b"%d" % _marked(int(words[4]), of_set)
        pieces += [b" ".join(words), reply[header_end:after]]
        pos = after
    return b"".join(pieces) + reply[pos:] if pieces else reply


def _mark_meta(reply, of_set):
    header, end, block = reply.partition(b"\r\n")
    words = [b"c%d" % _marked(int(word[1:]), of_set) if word[:1] == b"c" and word[1:].isdigit() else word for word in header.split(b" ")]
    return b" ".join(words) + end + block


def _marked(number, of_set):
    return number & ~MARKS | of_set << SHIFT


def line_for(request, of_set):
    """The line of `request`, a change on the condition of a cas number, as the set `of_set` gets it: with its own number, or with one that
    matches nothing."""
    head, end, block = request.line.partition(b"\r\n")
    words = head.split(b" ")
    if request.command.name == b"cas":
        words[5] = b"%d" % _number_for(words[5], of_set)
    elif request.command.is_meta:
        words = [b"C%d" % _number_for(word[1:], of_set) if at > 1 and word[:1] == b"C" else word for at, word in enumerate(words)]
    return b" ".join(words) + end + block


def _number_for(word, of_set):
    number = int(word) if word.isdigit() else UNMATCHED
    return number & ~MARKS if number >> SHIFT == of_set else UNMATCHED

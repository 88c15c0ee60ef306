"""Damage to the replies of a server. All of it breaks the framing, except a byte that is changed inside a value: a proxy cannot detect that,
but the checksum of the value shows it (values.py)."""

import re

#: The fraction of the received chunks that is damaged.
PART = 0.2

_HEADER = re.compile(rb"VALUE (\S+) (\d+) (\d+)(?: \d+)?\r\n")
_STATUS = re.compile(rb"(?:STORED|DELETED|NOT_FOUND|END|TOUCHED)\r\n")


def damages(chance):
    """Returns a function that damages some of the chunks that it is given; `chance` (a random.Random) chooses which, and how."""

    def damage(chunk):
        if chance.random() >= PART:
            return chunk
        return chance.choice(KINDS)(chunk, chance)

    return damage


def _replace(chunk, start, stop, other):
    return chunk[:start] + other + chunk[stop:]


def another_key(chunk, chance):
    """Changes one letter of the key in a VALUE line."""
    header = _HEADER.search(chunk)
    if header is None:
        return chunk
    at = chance.randrange(header.start(1), header.end(1))
    return _replace(chunk, at, at + 1, b"~")


def another_length(chunk, chance):
    header = _HEADER.search(chunk)
    if header is None:
        return chunk
    length = int(header[3])
    other = chance.choice((0, length + 1, length - 1, length * 10, 2**31 - 3, 10**12))
    return _replace(chunk, *header.span(3), b"%d" % other)


def another_line_end(chunk, chance):
    at = chunk.find(b"\r\n")
    return chunk if at < 0 else _replace(chunk, at, at + 2, chance.choice((b"\n\n", b"\r\r", b"  ")))


def another_status(chunk, chance):
    status = _STATUS.search(chunk)
    return chunk if status is None else _replace(chunk, status.start() + 1, status.start() + 2, b"#")


def more_than_was_asked(chunk, chance):
    """Appends bytes that cannot be the reply to a write. While writes wait for replies, an extra reply that could be theirs cannot be detected."""
    return chunk + chance.choice((b"OK\r\n", b"END\r\n", b"x", b"\r\n", b"\0" * 100))


def a_byte_of_a_value(chunk, chance):
    """Changes the last byte of a value that ends with this chunk."""
    if not chunk.endswith(b".\r\nEND\r\n"):
        return chunk
    at = len(chunk) - len(b".\r\nEND\r\n")
    return _replace(chunk, at, at + 1, b"!")


KINDS = (another_key, another_length, another_line_end, another_status, more_than_was_asked, a_byte_of_a_value)

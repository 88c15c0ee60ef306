"""The first line of the complete reply to a meta command. Where the reply ends, and that its numbers are numbers, has been checked when it
was received (text/responses.py).

    VA <length> <flags> CRLF <data> CRLF        HD <flags> CRLF and the like
"""

from collections.abc import Callable

CRLF = b"\r\n"


class MetaHeader:
    """What `parse` has found; any number of replies after one another.

    code        VA, HD, EN, NF, NS, EX, or the first word of another line
    flags       of the reply, each with its letter (a list of bytes)
    data_start  offset of the data; the length of the reply if it has none
    """

    __slots__ = ("code", "flags", "data_start")

    def parse(self, reply: bytes) -> None:
        """Parse a whole `reply`. Raises ValueError if it has no line end."""
        header_end = reply.index(CRLF)
        words = reply[:header_end].split(b" ")
        self.code = words[0]
        self.flags = words[2 if self.code == b"VA" else 1 :]
        self.data_start = header_end + 2

    def number(self, letter: bytes, default: int) -> int:
        """The number behind the flag `letter`, of its first 20 digits; `default` if there is no such flag, or no number."""
        for flag in self.flags:
            if flag[:1] == letter:
                return number_of(flag[1:], default)
        return default


def number_of(word: bytes, default: int = 0) -> int:
    """A number as servers write it, of its first 20 digits; `default` if it is none: what a server says must not stop us."""
    digits = word[:20].strip()
    return int(digits) if digits.isdigit() else default


def replace_cas(reply: bytes, number_for: Callable[[int], int]) -> bytes:
    """The whole `reply` to a meta command, with number_for(number) in place of its cas number."""
    header_end = reply.index(CRLF)
    words = reply[:header_end].split(b" ")
    for at, word in enumerate(words):
        if word[:1] == b"c" and word[1:].isdigit():
            words[at] = b"c%d" % number_for(int(word[1:]))
    return b" ".join(words) + reply[header_end:]

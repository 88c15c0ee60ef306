"""The first line of a complete reply to a meta command. The reply parser (text/responses.py) has checked its numbers and where it ends.

    VA <length> <flags> CRLF <data> CRLF
    HD <flags> CRLF

The other codes are as HD.
"""

from collections.abc import Callable

CRLF = b"\r\n"


class MetaHeader:
    """The header of the reply that `parse` parsed last.

    code        VA, HD, EN, NF, NS, EX, or the first word of another line
    flags       of the reply, each with its letter: [b"c12", ...]
    data_start  offset of the data; the length of the reply if it has none
    """

    __slots__ = ("code", "flags", "data_start")

    def parse(self, reply: bytes) -> None:
        """Parse a complete `reply`. Raises ValueError if it has no line end."""
        header_end = reply.index(CRLF)
        words = reply[:header_end].split(b" ")
        self.code = words[0]
        self.flags = words[2 if self.code == b"VA" else 1 :]
        self.data_start = header_end + 2

    def number(self, letter: bytes, default: int) -> int:
        """The number behind the letter of a flag, as from `number_of`; `default` if the reply does not have this flag."""
        for flag in self.flags:
            if flag[:1] == letter:
                return number_of(flag[1:], default)
        return default


def number_of(word: bytes, default: int = 0) -> int:
    """The number in the first 20 bytes of a `word` from a server; `default` if they are not digits: a bad server must not raise an exception."""
    digits = word[:20].strip()
    return int(digits) if digits.isdigit() else default


def replace_cas(reply: bytes, number_for: Callable[[int], int]) -> bytes:
    """The complete `reply` to a meta command, with number_for(number) in place of its cas number."""
    header_end = reply.index(CRLF)
    words = reply[:header_end].split(b" ")
    for at, word in enumerate(words):
        if word[:1] == b"c" and word[1:].isdigit():
            words[at] = b"c%d" % number_for(int(word[1:]))
    return b" ".join(words) + reply[header_end:]

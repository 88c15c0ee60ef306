"""Values that name their key and the writes that they come from.

Most have their key, the number of the write that stored them, and a checksum over all of it. A list, to which is appended, has its key and the
number of each write that is in it. A counter counts its own changes, up or down, in a range of its own.
"""

from typing import NamedTuple
from zlib import crc32


class Origin(NamedTuple):
    key: bytes
    number: int


def compose(key, number, size=0):
    """The value that write `number` stores under `key`, `size` bytes long if that is enough for what it must say."""
    said = b"%b %d " % (key, number)
    said += b"." * (size - len(said) - CHECKSUM_SIZE)
    return b"%08x " % crc32(said) + said


CHECKSUM_SIZE = len(b"01234567 ")


def read(data):
    """The Origin of a value, or None if it is not as it was composed: damaged on its way."""
    checksum, said = data[:CHECKSUM_SIZE], data[CHECKSUM_SIZE:]
    if checksum != b"%08x " % crc32(said):
        return None
    key, number, _ = said.split(b" ", 2)
    return Origin(key, int(number))


# -- lists


def begin_list(key: bytes, number: int) -> bytes:
    """What a set stores."""
    return b"%b|%d|" % (key, number)


def list_element(number: int) -> bytes:
    """What an append adds."""
    return b"%d|" % number


def read_list(data: bytes) -> tuple[bytes, list[int]] | None:
    """The key and the numbers, or None if it is no list."""
    key, *numbers = data.split(b"|")
    if len(numbers) < 2 or numbers.pop() or not all(number.isdigit() for number in numbers):
        return None
    return key, [int(number) for number in numbers]


# -- counters

#: Changes that one counter can have, at most, in either direction.
SPAN = 10**9


class Counter(NamedTuple):
    """The range of values of one counter; `step` is 1 if it counts up with incr, -1 if down with decr."""

    index: int
    step: int

    def value_of(self, number: int) -> int:
        """What it stands at after change `number`."""
        return self.index * SPAN + SPAN // 2 + self.step * number

    def number_in(self, data: bytes) -> int | None:
        """The number of the change that a value comes from; None if it is no value of this counter."""
        if not data.isdigit() or int(data) // SPAN != self.index:
            return None
        return self.step * (int(data) - self.index * SPAN - SPAN // 2)

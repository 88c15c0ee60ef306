"""Values that contain their key and the numbers of the writes that made them.

Most values contain their key, the number of the write that stored them, and a checksum of both. A list, which is appended to, contains its key
and the number of each write. A counter counts its own writes, up or down, in a range of its own.
"""

from typing import NamedTuple
from zlib import crc32


class Origin(NamedTuple):
    key: bytes
    number: int


def compose(key, number, size=0):
    """The value that write `number` stores under `key`. It has `size` bytes, or more if its contents need more."""
    said = b"%b %d " % (key, number)
    said += b"." * (size - len(said) - CHECKSUM_SIZE)
    return b"%08x " % crc32(said) + said


CHECKSUM_SIZE = len(b"01234567 ")


def read(data):
    """The Origin of a value, or None if it was damaged."""
    checksum, said = data[:CHECKSUM_SIZE], data[CHECKSUM_SIZE:]
    if checksum != b"%08x " % crc32(said):
        return None
    key, number, _ = said.split(b" ", 2)
    return Origin(key, int(number))


# -- lists


def begin_list(key: bytes, number: int) -> bytes:
    """The value that a set stores."""
    return b"%b|%d|" % (key, number)


def list_element(number: int) -> bytes:
    """The data that an append adds."""
    return b"%d|" % number


def read_list(data: bytes) -> tuple[bytes, list[int]] | None:
    """The key and the numbers, or None if `data` is not a list."""
    key, *numbers = data.split(b"|")
    if len(numbers) < 2 or numbers.pop() or not all(number.isdigit() for number in numbers):
        return None
    return key, [int(number) for number in numbers]


# -- counters

#: Values in the range of one counter. It starts in the middle.
SPAN = 10**9


class Counter(NamedTuple):
    """The range of values of one counter; `step` is 1 if it is counted up with incr, -1 if it is counted down with decr."""

    index: int
    step: int

    def value_of(self, number: int) -> int:
        """The value after write `number`."""
        return self.index * SPAN + SPAN // 2 + self.step * number

    def number_in(self, data: bytes) -> int | None:
        """The number of the write that the value `data` comes from; None if it is not a value of this counter."""
        if not data.isdigit() or int(data) // SPAN != self.index:
            return None
        return self.step * (int(data) - self.index * SPAN - SPAN // 2)

"""A value that says whose it is: its key, the number of the write that stored it, and a checksum over all of it."""

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

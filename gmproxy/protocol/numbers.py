"""Numbers in words, as memcached's C reads them."""

import re

#: A number as C's strtol reads it from a word: the rest after white space is ignored.
_C_NUMBER = re.compile(rb"[\t\v\f\r]*([+-]?)([0-9]+)(?:[\t\v\f\r]|\Z)")


#: A number of 64 bits, as servers write it.
_PLAIN_NUMBER = re.compile("[0-9]{1,20}")


def plain_number(text: str) -> int | None:
    """The number that a server has written as `text`, or None if that is none of 64 bits. Python alone would also take digits of other
    scripts, and raise ValueError for more than 4300 of them."""
    return int(text) if _PLAIN_NUMBER.fullmatch(text) else None


def c_number(word: bytes, least: int, most: int) -> int | None:
    """The number that memcached reads from `word`, or None if it refuses it or it is not in [least, most]."""
    match = _C_NUMBER.match(word)
    if match is None:
        return None
    number = int(match[2]) if len(match[2]) <= 20 else most + 1
    if match[1] == b"-":
        number = -number
    return number if least <= number <= most else None


def as_int32(number: int) -> int:
    """What is left of a number when memcached stores it in 32 signed bits."""
    return (number + 2**31) % 2**32 - 2**31

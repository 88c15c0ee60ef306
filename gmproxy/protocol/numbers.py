"""Numbers in the words of a line, as memcached parses and stores them."""

import re

#: A number as C's strtol parses it: what follows white space is ignored.
_C_NUMBER = re.compile(rb"[\t\v\f\r]*([+-]?)([0-9]+)(?:[\t\v\f\r]|\Z)")


#: A number of 64 bits in decimal.
_PLAIN_NUMBER = re.compile("[0-9]{1,20}")


def plain_number(text: str) -> int | None:
    """The number in `text`, or None if it is not 1 to 20 digits. int() alone accepts digits of other scripts, too, and raises ValueError for more
    than 4300 digits."""
    return int(text) if _PLAIN_NUMBER.fullmatch(text) else None


def c_number(word: bytes, least: int, most: int) -> int | None:
    """The number that memcached parses from `word`, or None if it is not a number from `least` to `most`."""
    match = _C_NUMBER.match(word)
    if match is None:
        return None
    number = int(match[2]) if len(match[2]) <= 20 else most + 1
    if match[1] == b"-":
        number = -number
    return number if least <= number <= most else None


def as_int32(number: int) -> int:
    """`number` after a conversion to a signed number of 32 bits, in which memcached stores it."""
    return (number + 2**31) % 2**32 - 2**31

"""An item that was read from one server to be stored on another, with its value, flags and life."""

from typing import NamedTuple

from gmproxy.protocol.meta_header import MetaHeader
from gmproxy.protocol.value_header import ValueHeader


class Item(NamedTuple):
    """What a backup has: `life` is its remaining seconds (0: unlimited), `data` the value and CRLF, `cas` its number, 0 if that was not requested."""

    flags: int
    life: int
    data: bytes
    cas: int = 0


def parse_meta_get(reply: bytes, default_life: int) -> Item | None:
    """The Item in the `reply` to `mg KEY f t v c`, or None for a miss. If the reply has no life, that is `default_life`."""
    header = MetaHeader()
    header.parse(reply)
    if header.code != b"VA":
        return None
    life = default_life
    for flag in header.flags:
        if flag[:1] == b"t":
            life = max(int(flag[1:]), 0)  # -1: unlimited
    return Item(header.number(b"f", 0), life, reply[header.data_start :], header.number(b"c", 0))


def parse_get(reply: bytes, default_life: int) -> Item | None:
    """As parse_meta_get, of the `reply` to `get KEY` or `gets KEY`, which never has a life."""
    header = ValueHeader()
    if not header.parse_value(reply, 0):
        return None
    return Item(header.flags, default_life, reply[header.data_start : header.end], header.cas)

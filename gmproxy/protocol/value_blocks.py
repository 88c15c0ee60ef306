"""The values in a reply to get, taken apart and put together again in another order.

This is for replies that were pieced together when servers failed or came back empty. The usual replies of several servers are merged
by the offsets that the reply parser recorded (key_list.py).
"""

from collections.abc import Iterable, Iterator

from gmproxy.protocol.value_header import ValueHeader

END = b"END\r\n"


def values_in(reply: bytes) -> Iterator[ValueHeader]:
    """The header of each value in a complete `reply`, which is one object with other numbers each time; of an error line nothing."""
    header = ValueHeader()
    start = 0
    while header.parse_value(reply, start):
        start = header.end
        yield header


def blocks_by_key(reply: bytes) -> dict[bytes, list[bytes]]:
    """{key: its VALUE blocks, in order}; of an error line nothing."""
    blocks: dict[bytes, list[bytes]] = {}
    start = 0
    for header in values_in(reply):
        blocks.setdefault(reply[header.key_start : header.key_end], []).append(reply[start : header.end])
        start = header.end
    return blocks


def in_order(keys: Iterable[bytes], blocks: dict[bytes, list[bytes]]) -> bytes:
    """The reply with these `blocks` (as from `blocks_by_key`, used up by this) in the order of `keys`."""
    ordered = [blocks[key].pop(0) for key in keys if blocks.get(key)]
    ordered.append(END)
    return b"".join(ordered)

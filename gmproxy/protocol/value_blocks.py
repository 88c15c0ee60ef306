"""The VALUE blocks of a reply to get, gets, gat or gats: separated, and joined in another order.

This is for replies with values of a failover or a fill. Other replies of several servers are merged by the offsets that the reply parser recorded
(key_list.py).
"""

from collections.abc import Iterable, Iterator

from gmproxy.protocol.value_header import ValueHeader

END = b"END\r\n"


def values_in(reply: bytes) -> Iterator[ValueHeader]:
    """The header of each value in a complete `reply`: the same object each time, with other numbers. Yields none for an error line."""
    header = ValueHeader()
    start = 0
    while header.parse_value(reply, start):
        start = header.end
        yield header


def blocks_by_key(reply: bytes) -> dict[bytes, list[bytes]]:
    """{key: [VALUE block, ...]} of a complete `reply`; a key that was requested twice has two. Empty for an error line."""
    blocks: dict[bytes, list[bytes]] = {}
    start = 0
    for header in values_in(reply):
        blocks.setdefault(reply[header.key_start : header.key_end], []).append(reply[start : header.end])
        start = header.end
    return blocks


def in_order(keys: Iterable[bytes], blocks: dict[bytes, list[bytes]]) -> bytes:
    """The reply with `blocks`, from `blocks_by_key`, in the order of `keys`. Removes them from `blocks`."""
    ordered = [blocks[key].pop(0) for key in keys if blocks.get(key)]
    ordered.append(END)
    return b"".join(ordered)

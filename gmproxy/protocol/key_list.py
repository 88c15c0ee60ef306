"""The keys of a multi-get: parsed from the client's line, partitioned by server, and the replies of the servers merged to one.

    KEY_LIST_PARSER -> KeyList --partition--> KeyPartition: a KeyList for each server --command_line--> what this server is sent
    each KeyList has the offsets of the values in the reply of its server --merge_replies--> the reply to the client

This hot module is written twice: key_list.pyx does the same with C arrays and memcpy. A key passes some ten steps, and Python integers, slices and
bytes objects for each would take longer than the system calls for the servers. Where a value ends is decided by value_header.py, of which there
is one source. tests/unit/protocol/test_key_list.py and tests/differential/test_reply_mutations.py hold both builds to the same behaviour.
"""

from collections.abc import Iterable, Sequence

from gmproxy.placement.locators import Locator
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import Request

END = b"END\r\n"
CRLF = b"\r\n"


class KeyList(list[bytes]):
    """The keys of one get, or those of them that one server has, in the client's order: a sequence of bytes. The reply parser records in it
    where their values end in the reply.

    next     index of the first key whose value can still arrive: a server returns values in the order requested, without those that it lacks
    values   number of values that have arrived
    """

    __slots__ = ("next", "values", "_ends")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        list.__init__(self, keys)
        self.clear_values()

    def command_line(self, prefix: bytes) -> bytes:
        """The command line that requests the keys, CRLF included. `prefix` is what is before them, with a blank at its end."""
        return prefix + b" ".join(self) + CRLF

    def partition(self, locator: Locator, servers: int) -> "KeyPartition":
        """The KeyPartition of these keys by `locator`, whose owners are below `servers`."""
        groups = [-1] * servers  # index of a server -> index of its group
        owners: list[int] = []
        order = []
        for owner in map(locator.locate, self):
            group = groups[owner]
            if group < 0:
                group = groups[owner] = len(owners)
                owners.append(owner)
            order.append(group)
        return KeyPartition(self, order, owners)

    # -- the values in the reply

    def clear_values(self) -> None:
        """Before a reply: no values have arrived."""
        self.next = self.values = 0
        self._ends: dict[int, int] = {}  # index of a key -> the offset in the reply where its VALUE block ends

    def match_next(self, stream: RecvBuffer, start: int, stop: int) -> bool:
        """True if the next value can be that of the key from offset `start` of `stream` to before `stop`: then `next` is behind this key."""
        key = stream.cut(start, stop)
        try:
            self.next = self.index(key, self.next) + 1
        except ValueError:
            return False
        return True

    def record_value(self, end: int) -> None:
        """Record that the VALUE block of the key before `next` ends at offset `end` of the reply."""
        self._ends[self.next - 1] = end
        self.values += 1

    def record_whole_values(self, stream: RecvBuffer, start: int, before: int) -> int:
        """Record the complete VALUE blocks from offset `start` of `stream` on; returns the offset behind them. Offset `x` of the stream is offset
        `x + before` of the reply. The reply parser continues with what this cannot handle: an incomplete or unexpected value, END, and in this
        build everything."""
        return start


class KeyListParser:
    """Finds the keys in a client's line. It is a class with one instance since methods can be C functions in the compiled build."""

    __slots__ = ()

    def parse_keys(self, stream: RecvBuffer, start: int, stop: int, longest: int) -> KeyList | None:
        """The KeyList of the words from offset `start` of `stream` to before `stop`; None if one is longer than `longest` bytes."""
        keys = KeyList(filter(None, stream.cut(start, stop).split(b" ")))
        return None if any(len(key) > longest for key in keys) else keys


KEY_LIST_PARSER = KeyListParser()


class KeyPartition:
    """The keys of a get in groups, one for each server that has some of them, and the order of all keys, by which the replies are merged.

    parts    the KeyList of each group
    owners   the index of the server of each group
    """

    __slots__ = ("parts", "owners", "_order")

    def __init__(self, keys: KeyList, order: Sequence[int], owners: list[int]) -> None:
        """`order`: the index of the group of each of `keys`."""
        self.parts = [KeyList() for _ in owners]
        self.owners = owners
        self._order = order
        for key, group in zip(keys, order):
            self.parts[group].append(key)

    def merge_replies(self, requests: Sequence[Request]) -> bytes:
        """One reply with all values, as from a server that has all keys. `requests`: one for each of `parts`, which has the ends of the VALUE blocks
        in its `reply`."""
        passed = [0] * len(requests)  # group -> number of its keys that have been passed
        copied = [0] * len(requests)  # group -> number of bytes of its reply that have been copied
        pieces = []
        last = -1  # adjacent values of one reply are copied in one piece: its group,
        start = end = 0  # and its offsets
        for group in self._order:
            index = passed[group]
            passed[group] = index + 1
            ends = self.parts[group]._ends
            if index in ends:
                if group != last:
                    if last >= 0:
                        pieces.append(requests[last].reply[start:end])
                    last = group
                    start = copied[group]
                end = copied[group] = ends[index]
        if last >= 0:
            pieces.append(requests[last].reply[start:end])
        pieces.append(END)
        return b"".join(pieces)

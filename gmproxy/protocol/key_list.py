"""A get of many keys: its keys, how they are partitioned by server, and one reply made of those of the servers.

    KEY_LIST_PARSER -> KeyList --partition--> KeyPartition: a KeyList for each server --command_line--> what that server is sent
    each KeyList knows where the values are in its server's reply         --merge_replies--> the client's reply

This hot module is written twice: key_list.pyx does the same with C arrays and memcpy. A key costs some ten steps on its way, and as many
Python integers, slices and bytes objects cost more than asking the servers. Where a value ends is decided by value_header.py, of which there is
one source. tests/unit/protocol/test_key_list.py and tests/differential/test_reply_mutations.py hold both builds to one behaviour.
"""

from collections.abc import Iterable, Sequence

from gmproxy.placement.locators import Locator
from gmproxy.protocol.recv_buffer import RecvBuffer
from gmproxy.protocol.request import Request

END = b"END\r\n"
CRLF = b"\r\n"


class KeyList(list[bytes]):
    """The keys of one retrieval, or those of one server, in the client's order: a sequence of bytes. The reply parser records
    where their values are.

    next     the place of the first key whose value may still come: the server answers in the order asked, and leaves out what it
             does not have
    values   how many have come
    """

    __slots__ = ("next", "values", "_ends")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        list.__init__(self, keys)
        self.clear_values()

    def command_line(self, prefix: bytes) -> bytes:
        """The command line that asks for them: `prefix` ends in a blank."""
        return prefix + b" ".join(self) + CRLF

    def partition(self, locator: Locator, servers: int) -> "KeyPartition":
        """A KeyPartition of these keys by the `locator`; `servers`: how many there are."""
        groups = [-1] * servers  # server -> its group
        owners: list[int] = []
        order = []
        for owner in map(locator.locate, self):
            group = groups[owner]
            if group < 0:
                group = groups[owner] = len(owners)
                owners.append(owner)
            order.append(group)
        return KeyPartition(self, order, owners)

    # -- their values

    def clear_values(self) -> None:
        """A reply begins."""
        self.next = self.values = 0
        self._ends: dict[int, int] = {}  # place of a key -> the offset in the reply where its VALUE block ends

    def match_next(self, stream: RecvBuffer, start: int, stop: int) -> bool:
        """True if the next value may be that of the key in stream[start:stop]: then `next` is the key behind it."""
        key = stream.cut(start, stop)
        try:
            self.next = self.index(key, self.next) + 1
        except ValueError:
            return False
        return True

    def record_value(self, end: int) -> None:
        """The value of the key before `next` ends at offset `end` of the reply."""
        self._ends[self.next - 1] = end
        self.values += 1

    def record_whole_values(self, stream: RecvBuffer, start: int, before: int) -> int:
        """Record, from offset `start` of the stream on, the values that are whole; returns the offset behind them. `before` bytes of the reply came
        before the offset 0. What is left is for the reply parser: a value that is not whole, what is none, and in this build everything."""
        return start


class KeyListParser:
    """Finds the keys in a client's line. (One object's method: in the compiled build to call it is a step in C.)"""

    __slots__ = ()

    def parse_keys(self, stream: RecvBuffer, start: int, stop: int, longest: int) -> KeyList | None:
        """The KeyList that stand between blanks from `start` to before `stop`; None if one is longer than `longest` bytes."""
        keys = KeyList(filter(None, stream.cut(start, stop).split(b" ")))
        return None if any(len(key) > longest for key in keys) else keys


KEY_LIST_PARSER = KeyListParser()


class KeyPartition:
    """
    parts    for each group its KeyList
    owners   for each group the number of the server that is asked
    """

    __slots__ = ("parts", "owners", "_order")

    def __init__(self, keys: KeyList, order: Sequence[int], owners: list[int]) -> None:
        """`order` says for each of the `keys` in which group it is."""
        self.parts = [KeyList() for _ in owners]
        self.owners = owners
        self._order = order
        for key, group in zip(keys, order):
            self.parts[group].append(key)

    def merge_replies(self, requests: Sequence[Request]) -> bytes:
        """All values and one END, as a server would answer that had all the keys. `requests`: one for each of the parts, whose reply
        is VALUE blocks and END."""
        passed = [0] * len(requests)  # group -> how many of its keys have been passed
        copied = [0] * len(requests)  # group -> how many bytes of its reply have been copied
        pieces = []
        last = -1  # the group of the piece that is being collected: what lies together in one reply
        start = end = 0  # is copied in one piece, from `start` to `end`
        for group in self._order:
            place = passed[group]
            passed[group] = place + 1
            ends = self.parts[group]._ends
            if place in ends:
                if group != last:
                    if last >= 0:
                        pieces.append(requests[last].reply[start:end])
                    last = group
                    start = copied[group]
                end = copied[group] = ends[place]
        if last >= 0:
            pieces.append(requests[last].reply[start:end])
        pieces.append(END)
        return b"".join(pieces)

"""A get of many keys: its keys, how they are shared out to servers, and one answer made of theirs.

    read_keys -> Keys --divide--> Division: a part of the Keys for each server --line--> what that one is sent
    Blocks: where the values are in a server's reply                          --merge--> the client's answer

This hot module is written twice: `_c/retrieval.pyx` does the same with C arrays and memcpy. A key costs some ten steps on its
way, and as many Python integers, slices and bytes objects cost more than asking the servers. tests/unit/test_retrieval.py holds
both builds to one behaviour.
"""

END = b"END\r\n"
CRLF = b"\r\n"


class Keys(list):
    """The keys of one retrieval, or those of one server, in the client's order: a sequence of bytes."""

    __slots__ = ()

    def line(self, prefix):
        """The command line that asks for them: `prefix` ends in a blank."""
        return prefix + b" ".join(self) + CRLF

    def divide(self, locator, servers):
        """Shared out (Division) to those of so many `servers` that the `locator` says (gmproxy.ring.Locator)."""
        groups = [-1] * servers  # server -> its group
        owners = []
        order = []
        for owner in map(locator.locate, self):
            group = groups[owner]
            if group < 0:
                group = groups[owner] = len(owners)
                owners.append(owner)
            order.append(group)
        return Division(self, order, owners)


def read_keys(stream, start, stop, longest):
    """The Keys that stand between blanks from `start` to before `stop`; None if one is longer than `longest` bytes."""
    keys = Keys(filter(None, stream.cut(start, stop).split(b" ")))
    return None if any(len(key) > longest for key in keys) else keys


class Division:
    """
    parts    for each group its Keys
    owners   for each group the number of the server that is asked
    """

    __slots__ = ("parts", "owners", "_order")

    def __init__(self, keys, order, owners):
        """`order` says for each of the `keys` in which group it is."""
        self.parts = [Keys() for _ in owners]
        self.owners = owners
        self._order = order
        for key, group in zip(keys, order):
            self.parts[group].append(key)

    def merge(self, replies, blocks):
        """All values of `replies` and one END, as a server would answer that had all the keys.

        replies   for each group bytes, VALUE blocks and END
        blocks    for each group its Blocks
        """
        asked = [0] * len(replies)  # reply -> how many of its keys have been passed
        taken = [0] * len(replies)  # reply -> how many of its blocks have been taken
        pieces = []
        last = -1                   # the reply that the piece being gathered is of: what lies together in one
        start = end = 0             # is taken in one piece, from `start` to `end`
        for number in self._order:
            place = asked[number]
            asked[number] = place + 1
            block = taken[number]
            places = blocks[number]._places
            if block < len(places) and places[block] == place:
                taken[number] = block + 1
                ends = blocks[number]._ends
                if number != last:
                    if last >= 0:
                        pieces.append(replies[last][start:end])
                    last = number
                    start = ends[block - 1] if block else 0
                end = ends[block]
        if last >= 0:
            pieces.append(replies[last][start:end])
        pieces.append(END)
        return b"".join(pieces)


class Blocks:
    """Where the VALUE blocks of one reply are, noted by the reply reader as it passes them.

    keys   those that were asked for
    next   of these the first whose value may still come
    """

    __slots__ = ("keys", "next", "_places", "_ends")

    def __init__(self, keys):
        self.keys = keys
        self.next = 0
        self._places = []  # block -> which of the keys asked it is the value of
        self._ends = []    # block -> where in the reply it ends

    def find(self, stream, start, stop):
        """True if the next value may be that of the key from `start` to before `stop`: then it is `last`. The server answers in the
        order asked, and what it does not have it leaves out."""
        key = stream.cut(start, stop)
        try:
            self.next = self.keys.index(key, self.next) + 1
        except ValueError:
            return False
        return True

    def add(self, end):
        """The block of the key just found goes as far as offset `end` of the reply."""
        self._places.append(self.next - 1)
        self._ends.append(end)

    def __len__(self):
        return len(self._ends)

    def pass_plain(self, stream, start, before):
        """Add, from offset `start` of the stream on, the blocks that are whole and written in the usual way; returns where they end.
        `before` bytes of the reply came before the offset 0. What is odd, or of another key, is left to the reply reader, and
        in this build everything."""
        return start

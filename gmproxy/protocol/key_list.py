"""A get of many keys: its keys, how they are shared out to servers, and one answer made of theirs.

    KEY_LIST_PARSER -> Keys --partition--> Division: a part of the KeyList for each server --line--> what that one is sent
    its KeyList know where the values are in a server's reply                 --merge--> the client's answer

This hot module is written twice: `_c/retrieval.pyx` does the same with C arrays and memcpy. A key costs some ten steps on its
way, and as many Python integers, slices and bytes objects cost more than asking the servers. tests/unit/test_retrieval.py holds
both builds to one behaviour.
"""

END = b"END\r\n"
CRLF = b"\r\n"


class KeyList(list):
    """The keys of one retrieval, or those of one server, in the client's order: a sequence of bytes. The reply reader notes where
    their values are.

    next     the place of the first key whose value may still come: the server answers in the order asked, and leaves out what it
             does not have
    values   how many have come
    """

    __slots__ = ("next", "values", "_ends")

    def __init__(self, keys=()):
        list.__init__(self, keys)
        self.clear_values()

    def command_line(self, prefix):
        """The command line that asks for them: `prefix` ends in a blank."""
        return prefix + b" ".join(self) + CRLF

    def partition(self, locator, servers):
        """Shared out (KeyPartition) to those of so many `servers` that the `locator` says (gmproxy.placement.locators.Locator)."""
        groups = [-1] * servers  # server -> its group
        owners = []
        order = []
        for owner in map(locator.locate, self):
            group = groups[owner]
            if group < 0:
                group = groups[owner] = len(owners)
                owners.append(owner)
            order.append(group)
        return KeyPartition(self, order, owners)

    # -- their values

    def clear_values(self):
        """A reply begins."""
        self.next = self.values = 0
        self._ends = {}  # place of a key -> the offset in the reply where its VALUE block ends

    def match_next(self, stream, start, stop):
        """True if the next value may be that of the key from `start` to before `stop`, after which is the `next`."""
        key = stream.cut(start, stop)
        try:
            self.next = self.index(key, self.next) + 1
        except ValueError:
            return False
        return True

    def record_value(self, end):
        """The block of the key before the `next` goes as far as offset `end` of the reply."""
        self._ends[self.next - 1] = end
        self.values += 1

    def record_whole_values(self, stream, start, before):
        """Note, from offset `start` of the stream on, the blocks that are whole and written in the usual way; returns where they end.
        `before` bytes of the reply came before the offset 0. What is odd, or of another key, is left to the reply reader, and
        in this build everything."""
        return start


class KeyListParser:
    """Finds the keys in a client's line. (One object's method: in the compiled build to call it is a step in C.)"""

    __slots__ = ()

    def parse_keys(self, stream, start, stop, longest):
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

    def __init__(self, keys, order, owners):
        """`order` says for each of the `keys` in which group it is."""
        self.parts = [KeyList() for _ in owners]
        self.owners = owners
        self._order = order
        for key, group in zip(keys, order):
            self.parts[group].append(key)

    def merge_replies(self, requests):
        """All values and one END, as a server would answer that had all the keys. `requests`: one for each of the parts, whose reply
        is VALUE blocks and END."""
        asked = [0] * len(requests)  # group -> how many of its keys have been passed
        taken = [0] * len(requests)  # group -> how many bytes of its reply have been taken
        pieces = []
        last = -1                    # the group that the piece being gathered is of: what lies together in one reply
        start = end = 0              # is taken in one piece, from `start` to `end`
        for group in self._order:
            place = asked[group]
            asked[group] = place + 1
            ends = self.parts[group]._ends
            if place in ends:
                if group != last:
                    if last >= 0:
                        pieces.append(requests[last].reply[start:end])
                    last = group
                    start = taken[group]
                end = taken[group] = ends[place]
        if last >= 0:
            pieces.append(requests[last].reply[start:end])
        pieces.append(END)
        return b"".join(pieces)

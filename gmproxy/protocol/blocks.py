"""Several answers to parts of one retrieval, merged to one without looking at them again.

This hot module is written twice: `_c/blocks.pyx` does the same with C arrays and memcpy. A retrieval of 100 keys from two servers
changes from one answer to the other some fifty times, and as many Python integers and slices cost more than asking the servers.
tests/unit/test_blocks.py holds both builds to one behaviour.
"""

END = b"END\r\n"


class Blocks:
    """Where the VALUE blocks of one reply are, noted by the reply reader as it passes them.

    capacity   how many there can be: one for each key asked
    """

    __slots__ = ("_places", "_ends")

    def __init__(self, capacity):
        self._places = []  # block -> which of the keys asked it is the value of
        self._ends = []    # block -> where in the reply it ends

    def add(self, place, end):
        """The next block is the value of key number `place` and goes as far as offset `end`."""
        self._places.append(place)
        self._ends.append(end)


def merge(order, replies, blocks):
    """All values of `replies` and one END, as a server would answer that had all the keys.

    order     for each key asked: which of the replies it is to be found in
    replies   bytes, each VALUE blocks and END
    blocks    for each reply its Blocks
    """
    asked = [0] * len(replies)  # reply -> how many of its keys have been passed
    taken = [0] * len(replies)  # reply -> how many of its blocks have been taken
    pieces = []
    last = -1                   # the reply that the piece being gathered is of: what lies together in one
    start = end = 0             # is taken in one piece, from `start` to `end`
    for number in order:
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

"""The VALUE blocks of an answer to get, taken apart and put together again in another order.

This is for answers that were pieced together when servers failed or came back empty. The usual answer of several servers is merged
by the offsets that the reply reader noted (retrieval.py).
"""

END = b"END\r\n"


def blocks_by_key(reply):
    """{key: its VALUE blocks, in order}; of an error line nothing."""
    found = {}
    pos = 0
    while reply.startswith(b"VALUE ", pos):
        header_end = reply.index(b"\r\n", pos)
        words = reply[pos + 6:header_end].split(b" ")
        after = header_end + 2 + int(words[2]) + 2
        found.setdefault(words[0], []).append(reply[pos:after])
        pos = after
    return found


def in_order(keys, found):
    """The answer with the blocks of `found` (as from `blocks_by_key`, used up by this) in the order of `keys`."""
    blocks = [found[key].pop(0) for key in keys if found.get(key)]
    blocks.append(END)
    return b"".join(blocks)

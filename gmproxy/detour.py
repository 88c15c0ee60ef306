"""While a server is ejected and the others share its keys (auto_eject_hosts): what has to be remembered of the keys that change.

The server itself will come back with the old value: the key goes into its journal. And whoever took the change in its place
has it as a guest: once the rings change again that value is old there, and the key goes into that server's journal, too.
"""

import time

#: The word of a command line that holds the life of the item; append, prepend, incr, decr and delete give none.
LIFE_AT = {b"set": 3, b"add": 3, b"replace": 3, b"cas": 3, b"touch": 2, b"gat": 1, b"gats": 1}

LONGEST_RELATIVE = 30 * 86400  # seconds; memcached takes more for a time of day


class Detour:
    """
    backends       list of Backend
    home_locator   the ring with all of them: key -> index
    longest_life   seconds that a value lives on a server that is not its own; 0: as its client said
    """

    def __init__(self, backends, home_locator, longest_life):
        self.backends = backends
        self.home_locator = home_locator
        self.longest_life = longest_life

    def take(self, request, key, backend):
        """`request` is about to change `key` on `backend`."""
        home = self.backends[self.home_locator.locate(key)]
        if home is backend:
            return
        home.missed_key(key)
        backend.has_guest(key)
        if self.longest_life and request.verb.name in LIFE_AT and request.keys is None:
            request.line = shorten_life(request.line, LIFE_AT[request.verb.name], self.longest_life)


def shorten_life(line, at, longest):
    """The command `line` with a life, its word number `at`, of at most `longest` seconds."""
    command, end, block = line.partition(b"\r\n")
    words = command.split(b" ")
    life = int(words[at])
    left = life - time.time() if life > LONGEST_RELATIVE else life
    if life == 0 or left > longest:
        words[at] = b"%d" % longest
    return b" ".join(words) + end + block

"""What a server missed: the keys whose changes did not reach it, or perhaps did not. Pure; bounded.

The one rule of which all else follows: **a key in a server's journal is not served by that server until it was deleted there.**
So no client is given a value that another one has already replaced.

Journals are kept in memory only. When there are more keys than the bound, all of them count as changed and the server has to be
flushed.
"""


class Journal:
    """
    limit       number of keys kept at most
    overflowed  True: any key of the server may be old, so it has to be flushed
    last_at     when the last entry was made (monotonic seconds)
    """

    __slots__ = ("limit", "overflowed", "last_at", "_keys", "_in_hand", "_flushing")

    def __init__(self, limit):
        self.limit = limit
        self.overflowed = False
        self.last_at = 0.0
        self._keys = set()
        self._in_hand = frozenset()  # being deleted at this moment
        self._flushing = False       # being flushed at this moment

    def __len__(self):
        return len(self._keys) + len(self._in_hand)

    def __bool__(self):
        return self.overflowed or self._flushing or bool(self._keys) or bool(self._in_hand)

    def __contains__(self, key):
        return self.overflowed or self._flushing or key in self._keys or key in self._in_hand

    def note(self, key, now):
        """`key` may be old there from now on. Returns True if this was one too many."""
        self.last_at = now
        if self.overflowed:
            return False
        self._keys.add(key)
        if len(self._keys) <= self.limit:
            return False
        self.note_everything(now)
        return True

    def note_everything(self, now):
        """Any key may be old there."""
        self.last_at = now
        self.overflowed = True
        self._keys.clear()

    def take(self, count):
        """Up to `count` keys to delete now. They stay in the journal until `deleted` says that it was done."""
        keys = self._keys
        self._in_hand = frozenset(keys.pop() for _ in range(min(count, len(keys))))
        return self._in_hand

    def take_everything(self):
        """The server is being flushed. What is noted from now on is noted for afterwards."""
        self.overflowed = False
        self._keys.clear()
        self._flushing = True

    def deleted(self):
        """What was taken is gone from the server. (What was noted again meanwhile stays.)"""
        self._in_hand = frozenset()
        self._flushing = False

    def not_deleted(self):
        """What was taken may still be there."""
        self._keys |= self._in_hand
        self._in_hand = frozenset()
        self.overflowed = self.overflowed or self._flushing
        self._flushing = False

    def clear(self):
        """Nothing of this concerns the server any more: it has a new, empty memory."""
        self.take_everything()
        self.deleted()

"""What a server missed: the keys whose changes did not reach it, or perhaps did not. Pure; bounded.

The one rule of which all else follows: **a key in a server's journal is not served by that server until it was deleted there.**
So no client is given a value that another one has already replaced.

Journals are kept in memory only. When there are more keys than the bound, all of them count as changed and the server has to be
flushed. Whatever is done here takes no longer for a million keys than for a few: clients wait meanwhile.
"""

from gmproxy.backend.key_set import KeySet, part_of

#: Keys that are noted one by one where many come together; more are kept as they came. So there are never many lots.
FEW = 1000

#: For each key that is noted so many are freed of those that were thrown away: so memory is bounded even if nobody sweeps.
SWEPT_FOR_ONE = 2


class PendingInvalidations:
    """
    limit       number of keys kept at most
    overflowed  True: any key of the server may be old, so it has to be flushed
    last_at     when the last entry was made (monotonic seconds)
    shared      where other workers see what is in it (gmproxy.process.shared_invalidations.ServerInvalidations), or None
    """

    __slots__ = ("limit", "overflowed", "last_at", "shared", "_lots", "_in_hand", "_flushing", "_thrown")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.overflowed = False
        self.last_at = 0.0
        self.shared = None
        self._lots = [KeySet()]  # the first has what was noted one by one, each other what came together
        self._in_hand: frozenset[bytes] = frozenset()  # being deleted at this moment
        self._flushing = False  # being flushed at this moment
        self._thrown: list[dict[bytes, None]] = []  # dicts of discarded keys, to be freed in small steps

    def __len__(self) -> int:
        """Keys to delete. One that came with two lots counts twice."""
        return sum(map(len, self._lots)) + len(self._in_hand)

    def __bool__(self) -> bool:
        return self.overflowed or self._flushing or bool(self._in_hand) or any(self._lots)

    def __contains__(self, key: bytes) -> bool:
        if self.overflowed or self._flushing or key in self._in_hand:
            return True
        for lot in self._lots:
            if key in lot:
                return True
        return False

    def note(self, key: bytes, now: float) -> bool:
        """`key` may be old there from now on. Returns True if this was one too many."""
        self.last_at = now
        if self._thrown:
            self.sweep(SWEPT_FOR_ONE)
        if self.overflowed:
            return False
        part = self._lots[0].add(key)
        if self.shared is not None:
            self.shared.add_part(part)
        return self._is_too_much(now)

    def note_all(self, keys: KeySet, now: float) -> bool:
        """So may all of these KeySet, which are ours from now on. Returns True if this was too much."""
        if len(keys) <= FEW:
            return any([self.note(key, now) for key in keys])  # each of them, whatever came of the one before
        self.last_at = now
        if self.overflowed:
            self._throw(keys)
            return False
        self._lots.append(keys)
        if self.shared is not None:
            for part in keys.parts:
                self.shared.add_part(part)
        return self._is_too_much(now)

    def _is_too_much(self, now: float) -> bool:
        lots = self._lots
        if (len(lots[0]) if len(lots) == 1 else sum(map(len, lots))) <= self.limit:
            return False
        self.note_everything(now)
        return True

    def note_everything(self, now: float) -> None:
        """Any key may be old there."""
        self.last_at = now
        self.overflowed = True
        if self.shared is not None:
            self.shared.add_everything()
        self._throw_all()

    def take(self, count: int) -> frozenset[bytes]:
        """Up to `count` keys to delete now. They stay in the journal until `deleted` says that it was done."""
        lot = self._lots[-1]
        if not lot and len(self._lots) > 1:
            self._lots.pop()
            return self.take(count)
        self._in_hand = frozenset(lot.take(count))
        return self._in_hand

    def take_everything(self) -> None:
        """The server is being flushed. What is noted from now on is noted for afterwards."""
        self.overflowed = False
        self._throw_all()
        self._flushing = True

    def deleted(self) -> None:
        """What was taken is gone from the server. (What was noted again meanwhile stays.)"""
        gone, self._in_hand = self._in_hand, frozenset()
        flushed, self._flushing = self._flushing, False
        if self.shared is None or self.overflowed:
            return
        if flushed or not self:
            self.shared.replace_parts({part for lot in self._lots for part in lot.parts})
        else:
            self.shared.remove_parts([part for part in set(map(part_of, gone)) if not any(part in lot.parts for lot in self._lots)])

    def not_deleted(self) -> None:
        """What was taken may still be there."""
        for key in self._in_hand:
            self._lots[0].add(key)
        self._in_hand = frozenset()
        self.overflowed = self.overflowed or self._flushing
        self._flushing = False

    def clear(self) -> None:
        """Nothing of this concerns the server any more: it has a new, empty memory."""
        self.take_everything()
        self.deleted()

    # -- what is of no use any more

    def _throw_all(self) -> None:
        for lot in self._lots:
            self._throw(lot)
        self._lots = [KeySet()]

    def _throw(self, keys: KeySet) -> None:
        self._thrown += keys.parts.values()

    def sweep(self, count: int) -> None:
        """Free up to `count` of the keys that were thrown away."""
        while self._thrown and count > 0:
            part = self._thrown[-1]
            if len(part) <= count:
                self._thrown.pop()
                count -= len(part)
            else:
                for _ in range(count):
                    part.popitem()
                return

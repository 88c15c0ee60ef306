"""The pending invalidations of one server: keys whose writes did not reach it, or may not have. No clock, no I/O; bounded.

The rule: **a key with a pending invalidation is not read on its server until it was deleted there.** So no client gets a value that another
one has already replaced.

They are kept in memory, and in the journal if there is one (gmproxy.shared.journal). If there are more keys than `limit`, every key of the server may
be stale, and the server has to be flushed. No call takes longer with a million keys than with a few: clients wait meanwhile.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from gmproxy.backend.key_set import KeySet
from gmproxy.shared.invalidation_marks import InvalidationMarks, part_of

#: `note_all` adds up to this number of keys one by one; it keeps a larger set as it is. So the number of sets stays small.
FEW = 1000

#: Discarded keys that are freed for each key that is noted: so memory is bounded even without `sweep`.
SWEPT_FOR_ONE = 2


class PendingInvalidations:
    """`len`: keys to delete; one that is in two sets counts twice. `in`: True if the key may be stale. `bool`: True if any key may be stale. Methods:
    loop callback or greenlet.

    limit       maximum number of keys
    overflowed  True: every key of the server may be stale, so it has to be flushed
    last_at     when a key was noted last (monotonic seconds)
    since       since when there has been one without interruption (monotonic seconds); 0.0 while there is none
    """

    __slots__ = ("limit", "overflowed", "last_at", "since", "_marks", "_journal", "_name", "_sets", "_taken", "_flushing", "_discarded")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.overflowed = False
        self.last_at = 0.0
        self.since = 0.0
        self._marks: InvalidationMarks | None = None
        self._journal: Any = None
        self._name = b""
        self._sets = [KeySet()]  # the first has the keys that were noted one by one, each other one those of a `note_all`
        self._taken: frozenset[bytes] = frozenset()  # being deleted now
        self._flushing = False  # the server is being flushed now
        self._discarded: list[dict[bytes, None]] = []  # parts of discarded KeySets, to be freed in small steps

    def share(self, marks: InvalidationMarks | None, journal: Any, name: bytes) -> None:
        """Also mark each key in `marks`, where the other workers see it, and write it to `journal` (gmproxy.shared.journal.Journal) for the server
        `name`, if they are not None. Keys that are pending already are noted there again."""
        if self._marks is marks and self._journal is journal:
            return
        self._marks, self._journal, self._name = marks, journal, name
        if self.overflowed or self._flushing:
            self._publish_everything()
        else:
            for key in [*self._taken, *(key for keys in self._sets for key in keys)]:
                self._publish(key, part_of(key))

    def _publish(self, key: bytes, part: int) -> None:
        if self._marks is not None:
            self._marks.add_part(part)
        if self._journal is not None:
            self._journal.note(self._name, key)

    def _publish_everything(self) -> None:
        if self._marks is not None:
            self._marks.add_everything()
        if self._journal is not None:
            self._journal.note_everything(self._name)

    def __len__(self) -> int:
        return sum(map(len, self._sets)) + len(self._taken)

    def __bool__(self) -> bool:
        return self.overflowed or self._flushing or bool(self._taken) or any(self._sets)

    def __contains__(self, key: bytes) -> bool:
        if self.overflowed or self._flushing or key in self._taken:
            return True
        for keys in self._sets:
            if key in keys:
                return True
        return False

    def note(self, key: bytes, now: float) -> bool:
        """`key` may be stale from now on. Returns True if this overflows the limit. `now`: monotonic seconds."""
        self._note_time(now)
        if self._discarded:
            self.sweep(SWEPT_FOR_ONE)
        if self.overflowed:
            return False
        self._publish(key, self._sets[0].add(key))
        return self._overflows(now)

    def note_all(self, keys: KeySet, now: float) -> bool:
        """As `note`, for all of `keys`, which are owned by this object from now on."""
        if len(keys) <= FEW:
            return any([self.note(key, now) for key in keys])  # a list: all of them are noted
        self._note_time(now)
        if self.overflowed:
            self._discard(keys)
            return False
        self._sets.append(keys)
        if self._marks is not None:
            for part in keys.parts:
                self._marks.add_part(part)
        if self._journal is not None:
            self._journal.note_all(self._name, keys)
        return self._overflows(now)

    def _overflows(self, now: float) -> bool:
        sets = self._sets
        if (len(sets[0]) if len(sets) == 1 else sum(map(len, sets))) <= self.limit:
            return False
        self.note_everything(now)
        return True

    def note_everything(self, now: float) -> None:
        """Every key may be stale from now on."""
        self._note_time(now)
        self.overflowed = True
        self._publish_everything()
        self._discard_all()

    def _note_time(self, now: float) -> None:
        self.last_at = now
        if not self.since:
            self.since = now

    def take(self, count: int) -> frozenset[bytes]:
        """Up to `count` keys to delete now. They stay pending until `deleted` or `not_deleted` is called."""
        keys = self._sets[-1]
        if not keys and len(self._sets) > 1:
            self._sets.pop()
            return self.take(count)
        self._taken = frozenset(keys.take(count))
        return self._taken

    def take_everything(self) -> None:
        """The server is to be flushed now, until `deleted` or `not_deleted` is called. What is noted from now on stays pending after that."""
        self.overflowed = False
        self._discard_all()
        self._flushing = True

    def deleted(self) -> None:
        """What was taken is deleted on the server. Keys that were noted again meanwhile stay pending."""
        deleted, self._taken = self._taken, frozenset()
        flushed, self._flushing = self._flushing, False
        if self.overflowed:
            return
        if not self:
            self.since = 0.0
            if self._journal is not None:
                self._journal.settled(self._name)
        if self._marks is None:
            return
        if flushed or not self:
            self._marks.replace_parts({part for keys in self._sets for part in keys.parts})
        else:
            self._marks.remove_parts([part for part in set(map(part_of, deleted)) if not any(part in keys.parts for keys in self._sets)])

    def pending(self) -> Iterator[bytes] | None:
        """All keys; None if every key may be stale."""
        if self.overflowed or self._flushing:
            return None
        return itertools.chain(self._taken, *self._sets)

    def not_deleted(self) -> None:
        """What was taken may still be on the server: it stays pending."""
        for key in self._taken:
            self._sets[0].add(key)
        self._taken = frozenset()
        self.overflowed = self.overflowed or self._flushing
        self._flushing = False

    def clear(self) -> None:
        """The server has a new, empty memory: nothing is stale there."""
        self.take_everything()
        self.deleted()

    # -- discarded keys

    def _discard_all(self) -> None:
        for keys in self._sets:
            self._discard(keys)
        self._sets = [KeySet()]

    def _discard(self, keys: KeySet) -> None:
        self._discarded += keys.parts.values()

    def sweep(self, count: int) -> None:
        """Free up to `count` discarded keys."""
        while self._discarded and count > 0:
            part = self._discarded[-1]
            if len(part) <= count:
                self._discarded.pop()
                count -= len(part)
            else:
                for _ in range(count):
                    part.popitem()
                return

"""The changes of keys that are under way in all workers, in shared memory: who changes a key that another worker changes as well?

A worker sends all its changes of a key to the primary and to the backup in one order. Two workers do not: each has connections of its own. So each
worker notes a change before its first byte is sent, and ends the note when both servers have replied, or have a pending invalidation of the
key. If it finds by then that a change of another worker was under way, or has begun since, it deletes the key on the backup, and only then ends
the note. Of two such workers, the last to end deletes last: after both changes have arrived. Until then no worker reads the key on the backup.

Keys are noted by the slot of their hash. If two keys share a slot, a deletion on the backup may be in vain; a reply is never wrong.

A *fill* copies a value from the backup to the primary. It is noted as well: a value that was read before another worker's change must not be sent
after it. So a fill whose slot another worker changes, or has changed since, is not sent; and a change waits for the fills of other workers that have
been sent (gmproxy.routing.held_writes).

Each slot has three words in the column of each worker. Only that worker writes there: a number of begun changes in the upper half, of those under
way in the lower. No lock and no barrier is needed: each side writes its own word first and reads those of the others then, and again when a reply has
arrived, thousands of times later than a processor takes to make a written word visible.
"""

from typing import Any

from gmproxy.shared.keys_in_flight import KeysInFlight
from gmproxy.shared.memory import SLOTS, WORDS_PER_SLOT, SharedMemory

#: The words of a slot: changes that the primary may make; changes that only its copies are sent, because the primary cannot make them; fills.
PRIMARY_WORD, BACKUP_WORD, FILL_WORD = range(3)

#: In place of BACKUP_WORD: as that, and more than one copy is sent the change.
COPIES_WORD = 3
_COPIES = COPIES_WORD
_PRIMARY, _BACKUP, _FILL = PRIMARY_WORD, BACKUP_WORD, FILL_WORD  # in C

#: The slot of what concerns all keys: flush_all, the number of all fills, and, in the second word, the time of `stop_fills` in milliseconds.
EVERY_KEY = SLOTS

#: One change that has begun and is under way, and one that has begun.
_BEGIN = (1 << 32) + 1
_HALF = 32
_LOWER = (1 << 32) - 1
_WORD = (1 << 64) - 1


#: Numbers of the hash FNV-1a of 32 bits.
_FNV_BASIS, _FNV_PRIME, _M32 = 2166136261, 16777619, 0xFFFFFFFF


def slot_of(key: bytes) -> int:
    """The slot of `key`, the same in all processes."""
    value = _FNV_BASIS
    for byte in key:
        value = (value ^ byte) * _FNV_PRIME & _M32
    return (value ^ value >> 16) & (SLOTS - 1)


class Note:
    """A change or a fill that is under way in this worker.

    slot, word   where it is noted
    entry        of gmproxy.shared.keys_in_flight
    begun        changes of other workers that had begun in the slot when it was noted
    contested    True if one of them was under way
    alone        True if only one copy is sent the change
    before       of a change that only copies are sent: changes of other workers that the primary may make, and that had begun in the slot
    """

    __slots__ = ("slot", "word", "entry", "begun", "contested", "alone", "before")

    slot: int
    word: int
    entry: int
    begun: int
    contested: bool
    alone: bool
    before: int


class ChangeNotes:
    """The notes of this worker, for all its pools. Methods: loop callback or greenlet; none blocks or raises.

    column   of this worker in the shared memory
    journal  of this worker, or None
    """

    __slots__ = ("column", "journal", "_cells", "_columns_used", "_keys", "_ended")

    def __init__(self, memory: SharedMemory, column: int, keys: KeysInFlight) -> None:
        self.column = column
        self._cells = memory.cells
        self._columns_used = memory.columns_used
        self._keys = keys
        self.journal: Any = None
        self._ended: list[int] = []  # entries of keys in flight that are to be removed once the journal is written

    # -- changes

    def begin_change(self, key: bytes, tag: int, word: int) -> Note:
        """A change of `key` is about to be sent. `tag`: of its pool (gmproxy.shared.keys_in_flight.tag_of); `word`: PRIMARY_WORD, BACKUP_WORD or
        COPIES_WORD."""
        note = self._begin(key, tag, _BACKUP if word == _COPIES else word)
        note.alone = word == _BACKUP
        self._observe(note)
        return note

    def is_contested(self, note: Note) -> bool:
        """True if a change of another worker was under way in the slot when `note` began, or has begun since: the two servers may have made the two
        in different orders. Two changes that only the backup is sent have its order."""
        return note.contested or self._begun_elsewhere(note.slot, note.alone) != note.begun

    def primary_has_changed(self, note: Note) -> bool:
        """True if, since `note` of a change that only copies are sent has begun, another worker has begun a change of the slot that the primary may
        make: it does not contain the one of `note`."""
        return self._begun_elsewhere(note.slot, True) != note.before

    def end_note(self, note: Note) -> None:
        """All servers have replied, or have a pending invalidation of the key."""
        self._add(note.slot, note.word, -1)
        if note.word == _FILL:
            self._add(EVERY_KEY, _FILL, -1)
        if self.journal is not None and self.journal.unwritten:
            self._ended.append(note.entry)  # perhaps because of a pending invalidation that is not in the journal yet
            return
        if self._ended:
            self.journal_written()
        self._keys.remove_entry(note.entry)

    def journal_written(self) -> None:
        """All pending invalidations are in the journal: the keys of changes that have ended are no longer in flight."""
        for entry in self._ended:
            self._keys.remove_entry(entry)
        self._ended.clear()

    def are_under_way(self, key: bytes, but: int = 0, on_copies: bool = False) -> bool:
        """True if there are other workers, and one of all workers has a change of `key` under way that the primary may make: the backup may not have
        it yet, or have it in another order. `but`: 1 if one of this worker is the caller's own, else 0. `on_copies`: also if another
        worker has one that only copies are sent."""
        if self._columns_used[0] == 1:
            return False
        slot = slot_of(key)
        own = (self.column * (SLOTS + 1) + slot) * WORDS_PER_SLOT
        if (self._cells[own] & _LOWER) > but:
            return True
        if on_copies and self._are_under_way(slot, _BACKUP):
            return True
        return self._are_under_way(slot, _PRIMARY) or self._are_under_way(EVERY_KEY, _PRIMARY)

    def is_changing(self, key: bytes) -> bool:
        """True if a worker, this one included, has a change of `key` under way: of the servers with copies, some may not have it yet."""
        slot = slot_of(key)
        own = (self.column * (SLOTS + 1) + slot) * WORDS_PER_SLOT
        if (self._cells[own] | self._cells[own + _BACKUP]) & _LOWER:
            return True
        if self._columns_used[0] == 1:
            return False
        return self._are_under_way(slot, _PRIMARY) or self._are_under_way(slot, _BACKUP) or self._are_under_way(EVERY_KEY, _PRIMARY)

    # -- fills

    def begin_fill(self, key: bytes, tag: int) -> Note:
        """The value of `key` is about to be read on the backup, to be sent to the primary."""
        note = self._begin(key, tag, _FILL)
        note.alone = False
        self._add(EVERY_KEY, _FILL, _BEGIN)
        self._observe(note)
        return note

    def fills_are_elsewhere(self, key: bytes) -> bool:
        """True if another worker has a fill of `key` under way: a change of it must wait."""
        return self._are_under_way(EVERY_KEY, _FILL) and self._are_under_way(slot_of(key), _FILL)

    def stop_fills(self, until: float) -> None:
        """No worker may fill before `until` (monotonic seconds)."""
        at = (self.column * (SLOTS + 1) + EVERY_KEY) * WORDS_PER_SLOT + _BACKUP
        self._cells[at] = max(self._cells[at], int(until * 1000) + 1)

    def fills_are_stopped(self, now: float) -> bool:
        """True before the time of `stop_fills` of any worker."""
        milliseconds = int(now * 1000)
        for column in range(self._columns_used[0]):
            if self._cells[(column * (SLOTS + 1) + EVERY_KEY) * WORDS_PER_SLOT + _BACKUP] > milliseconds:
                return True
        return False

    # -- flush_all

    def begin_flush(self) -> None:
        """A flush_all is about to be sent: every key changes."""
        self._add(EVERY_KEY, _PRIMARY, _BEGIN)

    def end_flush(self) -> None:
        self._add(EVERY_KEY, _PRIMARY, -1)

    def any_fills_are_elsewhere(self) -> bool:
        """True if another worker has a fill under way: a flush_all must wait."""
        return self._are_under_way(EVERY_KEY, _FILL)

    # -- the words

    def _begin(self, key: bytes, tag: int, word: int) -> Note:
        note = Note.__new__(Note)
        note.entry = self._keys.add_key(key, tag)
        note.slot = slot_of(key)
        note.word = word
        self._add(note.slot, word, _BEGIN)
        return note

    def _observe(self, note: Note) -> None:
        note.begun = note.before = 0
        note.contested = False
        if self._columns_used[0] == 1:
            return
        note.begun = self._begun_elsewhere(note.slot, note.alone)
        if note.word == _BACKUP:
            note.before = self._begun_elsewhere(note.slot, True)
        note.contested = (
            self._are_under_way(note.slot, _PRIMARY)
            or (not note.alone and self._are_under_way(note.slot, _BACKUP))
            or self._are_under_way(EVERY_KEY, _PRIMARY)
        )

    def _add(self, slot: int, word: int, number: int) -> None:
        """Add `number` to the word of this worker."""
        at = (self.column * (SLOTS + 1) + slot) * WORDS_PER_SLOT + word
        self._cells[at] = self._cells[at] + number & _WORD

    def _begun_elsewhere(self, slot: int, alone: bool) -> int:
        """Changes of the other workers that have begun in `slot`, or of every key, since each of them started. `alone`: as in Note; such a change and
        another one on copies only have the order of that server."""
        begun = 0
        for column in range(self._columns_used[0]):
            if column != self.column:
                at = (column * (SLOTS + 1) + slot) * WORDS_PER_SLOT
                begun += self._cells[at] >> _HALF
                if not alone:
                    begun += self._cells[at + _BACKUP] >> _HALF
                begun += self._cells[(column * (SLOTS + 1) + EVERY_KEY) * WORDS_PER_SLOT] >> _HALF
        return begun

    def _are_under_way(self, slot: int, word: int) -> bool:
        """True if another worker has such a change, or fill, under way."""
        for column in range(self._columns_used[0]):
            if column != self.column and self._cells[(column * (SLOTS + 1) + slot) * WORDS_PER_SLOT + word] & _LOWER:
                return True
        return False

"""Which keys of one server may be stale there: it missed a write of them, or had them as the stand-in for another server.

One rule covers all of it: such a key is deleted on the server (recovery.py) before it is read there.
"""

from time import monotonic
from typing import Any

from gmproxy.backend.interfaces import ConnectionOwner
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet
from gmproxy.protocol.replica_commands import changes_value
from gmproxy.protocol.request import Request
from gmproxy.shared.changes import ChangeNotes, Note
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.ejections import Followers
from gmproxy.shared.invalidation_marks import STAND_IN, InvalidationMarks, server_name
from gmproxy.shared.keys_in_flight import tag_of

#: Whether a request may read a stale value: no; yes, this worker has to delete it; yes, another worker has to.
FRESH, STALE_HERE, STALE_ELSEWHERE = range(3)
_FRESH, _HERE, _ELSEWHERE = FRESH, STALE_HERE, STALE_ELSEWHERE  # in C


class MissedWrites(ConnectionOwner):
    """The part of a Backend that knows what the server missed. Methods: loop callback or greenlet; none blocks.

    label, log            of the server, for the log
    log_name              the server, and its pool if that has a name, as fields of a log line
    invalidations         PendingInvalidations
    behind                True while there are pending invalidations
    notes                 the ChangeNotes of this process
    tag                   of the pool, for `notes`
    marks                 the pending invalidations of all workers (InvalidationMarks), or None
    followers             the Followers of the pool, where servers have stand-ins, else None
    stand_in_keys         keys that were written here while their own server was ejected or failed
    fetches               fills that may be made: {key: the gmproxy.routing.fetch.Fetch that looks it up}
    """

    __slots__ = ("label", "log", "log_name", "invalidations", "behind", "notes", "tag", "marks", "followers", "stand_in_keys", "fetches", "_fills",
                 "_states", "_columns_used", "_column", "_name", "_journal", "_stand_in_name", "_stand_in_marks",
                 "_stand_in_keys_overflowed")  # fmt: skip

    def __init__(self, label: str, log: Any, journal_size: int, notes: ChangeNotes) -> None:
        self.label = label
        self.log = log
        self.log_name = f"server={label}{getattr(log, 'suffix', '')}"
        self.invalidations = PendingInvalidations(journal_size)
        self.behind = False
        self.notes = notes
        self.tag = 0
        self.marks: InvalidationMarks | None = None
        self.followers: Followers | None = None
        self._states: Any = None  # of `marks`, for each column
        self._columns_used: Any = None
        self._column = 0  # of this worker
        self.stand_in_keys = KeySet()
        self._name = b""
        self._stand_in_name = b""
        self._stand_in_marks: InvalidationMarks | None = None
        self._journal: Any = None
        self.fetches: dict[bytes, Any] = {}
        self._fills: dict[bytes, Note] = {}  # fills under way
        self._stand_in_keys_overflowed = False  # there are others than those in stand_in_keys

    def share(self, column: SharedColumn | None, pool: str, role: str) -> None:
        """Share what this server missed with the other workers; with None, the server was removed: what is pending is forgotten, and nothing is
        shared. `role`: PRIMARY or BACKUP (gmproxy.shared.invalidation_marks).
        Called at start-up and at a reload. May block for gmproxy.shared.memory.LOCK_PATIENCE."""
        if column is None:
            self.invalidations.clear()
            self._settle_stand_in_keys()
            self.marks = self._stand_in_marks = self._states = self._columns_used = self._journal = None
            self.invalidations.share(None, None, b"")
            return
        self.notes = column.notes
        self.tag = tag_of(pool)
        name = server_name(pool, role, self.label)
        if self.marks is None:
            self.marks = column.marks_of(name)
            self._stand_in_marks = column.marks_of(server_name(pool, STAND_IN, self.label))
        self._stand_in_name = server_name(pool, STAND_IN, self.label).encode()
        self._journal = column.journal
        if self._journal is not None:
            self._journal.declare([name.encode(), self._stand_in_name])
        self._name = name.encode()
        self.invalidations.share(self.marks, column.journal, self._name)
        if self.marks is not None:
            self._states = self.marks.states
            self._columns_used = self.marks.columns_used
            self._column = column.number

    def hand_over(self) -> None:
        """The server is in another set from now on, with the same name: what is pending is the task of its Backend there. Called at a reload."""
        self.marks = self._stand_in_marks = self._states = self._columns_used = self._journal = None
        self.invalidations.share(None, None, b"")

    def missed(self) -> list[tuple[bytes, list[bytes] | None]]:
        """[(name for the journal, keys; None: every key)]: the pending invalidations, and the stand-in keys."""
        pending = self.invalidations.pending()
        stand_ins = None if self._stand_in_keys_overflowed else list(self.stand_in_keys)
        return [(self._name, None if pending is None else list(pending)), (self._stand_in_name, stand_ins)]

    # -- what may be stale

    def _staleness(self, request: Request) -> int:
        """STALE_HERE or STALE_ELSEWHERE if the reply to `request`, or the result of a write, may depend on a stale value; a write that replaces the
        value never does."""
        if request.command.overwrites or not request.key or not (self.behind or self._others_have_any()):
            return _FRESH
        if request.keys is None:
            return self._staleness_of(request.key)
        return max([self._staleness_of(key) for key in request.keys])

    def _staleness_of(self, key: bytes) -> int:
        if self.behind and key in self.invalidations:
            return _HERE
        return _ELSEWHERE if self.others_may_delete(key) else _FRESH

    def may_have_stale_keys(self) -> bool:
        return self.behind or self._others_have_any()

    def may_be_stale(self, key: bytes) -> bool:
        """True if `key` has a pending invalidation, here or in another worker."""
        return self._staleness_of(key) != _FRESH

    def others_may_delete(self, key: bytes) -> bool:
        """True if `key` has a pending invalidation in another worker."""
        return self.marks is not None and self._others_have_any() and self.marks.others_have(key)

    def _others_have_any(self) -> bool:
        """True if another worker has pending invalidations of this server."""
        states = self._states
        if states is None:
            return False
        for column in range(self._columns_used[0]):
            if states[column] and column != self._column:
                return True
        return False

    # -- missed writes

    def missed_write(self, request: Request) -> None:
        """The write or flush_all `request` did not reach this server, or may not have."""
        if request.key:
            for key in request.all_keys():
                self.missed_key(key)
        else:  # flush_all
            self.missed_everything()

    def missed_key(self, key: bytes) -> None:
        """`key` may be stale here, until it was deleted."""
        self.behind = True
        self.void_fill_of_key(key)
        if self.invalidations.note(key, monotonic()):
            self._log_overflow()

    def missed_everything(self) -> None:
        """Every key may be stale here, until the server was flushed."""
        self.behind = True
        self.void_all_fills()
        self.invalidations.note_everything(monotonic())

    def forget_missed_writes(self) -> None:
        """Drop the pending invalidations, for an operator: stale values of these keys may be read from now on."""
        self.invalidations.clear()
        self.behind = False

    def _log_overflow(self) -> None:
        self.log.warning("journal overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    # -- fills: a fetch that was started and not voided may add its value here

    def start_fill(self, key: bytes, fetch: Any) -> None:
        """`fetch` starts to look up `key`. If another fetch does already, that one will fill it."""
        if key not in self.fetches and key not in self._fills:
            self.fetches[key] = fetch
            self._fills[key] = self.notes.begin_fill(key, self.tag)

    def end_fill(self, key: bytes, fetch: Any) -> bool:
        """The lookup of `key` by `fetch` has ended. True if `fetch` may fill the key: no other fetch does, it was not voided, and no other worker
        changes the key or has changed it. Then `fill_written` must be called, once."""
        if self.fetches.get(key) is not fetch:
            return False
        del self.fetches[key]
        if self.notes.is_contested(self._fills[key]):
            self._end_note_of_fill(key)
            return False
        return True

    def fill_written(self, key: bytes) -> None:
        """The fill of `key` for which `end_fill` returned True has its reply, or has failed, or is not sent at all."""
        note = self._fills.get(key)
        if note is not None and self.notes.is_contested(note):
            self.missed_key(key)  # a change began, although it should have waited: it may have arrived before the fill
        self._end_note_of_fill(key)

    def _end_note_of_fill(self, key: bytes) -> None:
        note = self._fills.pop(key, None)
        if note is not None:
            self.notes.end_note(note)

    def void_fills_of_write(self, request: Request) -> None:
        """The write `request` is about to be sent: values of its keys that are being fetched will be stale."""
        if changes_value(request):
            for key in request.all_keys():
                self.void_fill_of_key(key)

    def void_fill_of_key(self, key: bytes) -> None:
        if self.fetches.pop(key, None) is not None:
            self._end_note_of_fill(key)

    def void_all_fills(self) -> None:
        while self.fetches:
            self._end_note_of_fill(self.fetches.popitem()[0])

    # -- stand-in keys

    def add_stand_in_key(self, key: bytes) -> None:
        """`key`, whose own server is ejected or failed, is about to be written here."""
        if len(self.stand_in_keys) < self.invalidations.limit:
            part = self.stand_in_keys.add(key)
            if self._stand_in_marks is not None:
                self._stand_in_marks.add_part(part)
            if self._journal is not None:
                self._journal.note(self._stand_in_name, key)
        elif not self._stand_in_keys_overflowed:
            self._stand_in_keys_overflowed = True
            if self._stand_in_marks is not None:
                self._stand_in_marks.add_everything()
            if self._journal is not None:
                self._journal.note_everything(self._stand_in_name)
            self.log.warning("guests overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    def may_be_stand_in_key(self, key: bytes) -> bool:
        return key in self.stand_in_keys or self._stand_in_keys_overflowed

    def may_lag(self) -> bool:
        """True if another worker may have to delete stand-in keys here, and does not know it yet: it has not followed the ejections."""
        followers, marks = self.followers, self._stand_in_marks
        return followers is not None and marks is not None and not followers.all_have_followed(marks.states)

    def drop_stand_in_key(self, key: bytes) -> None:
        """`key` is written on its own server. If it is a stand-in key, it is stale here."""
        if self.may_be_stand_in_key(key):
            self.stand_in_keys.discard(key)
            self.missed_key(key)

    def drop_stand_in_keys(self) -> None:
        """All stand-in keys have another server from now on: they are stale here. If there were too many to know all of them, every key of this
        server is."""
        if self._stand_in_keys_overflowed:
            self.missed_everything()
        if self.stand_in_keys:
            self.behind = True
            if self.invalidations.note_all(self.stand_in_keys, monotonic()):
                self._log_overflow()
            self.stand_in_keys = KeySet()
        self.void_all_fills()
        self._stand_in_keys_overflowed = False
        self._settle_stand_in_keys()

    def _settle_stand_in_keys(self) -> None:
        if self._stand_in_marks is not None:
            self._stand_in_marks.replace_parts(())
        if self._journal is not None:
            self._journal.settled(self._stand_in_name)

"""Which keys of one server may be stale there: it missed a write of them, or holds them for a server that was ejected.

The one rule of which all else follows: such a key is deleted on the server (recovery.py) before it is read there.
"""

from time import monotonic
from typing import Any

from gmproxy.backend.connection import ConnectionOwner
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet
from gmproxy.protocol.replica_commands import changes_value
from gmproxy.protocol.request import Request


class MissedWrites(ConnectionOwner):
    """The part of a Backend that knows what it missed. The methods may be called from loop callbacks and greenlets; none waits.

    invalidations         keys that may be stale there; `behind` is True while there are any
    shared_invalidations  those of all workers (gmproxy.process.shared_invalidations.ServerInvalidations), or None
    label, log            of the server, for the log
    log_name              the server, and its pool if that has a name, as values of a log line
    guests                keys that were written there for a server that is ejected
    fetches               keys that are being fetched from the backups to fill it: {key: gmproxy.routing.fetch.Fetching}
    """

    __slots__ = ("label", "log", "log_name", "invalidations", "behind", "shared_invalidations", "guests", "fetches", "_states", "_worker_number",
                 "_full_of_guests")  # fmt: skip

    def __init__(self, label: str, log: Any, journal_size: int) -> None:
        self.label = label
        self.log = log
        self.log_name = f"server={label}{getattr(log, 'suffix', '')}"
        self.invalidations = PendingInvalidations(journal_size)
        self.behind = False
        self.shared_invalidations: Any = None
        self._states: Any = None  # of the shared invalidations, by worker
        self._worker_number = 0
        self.guests = KeySet()
        self.fetches: dict[bytes, Any] = {}
        self._full_of_guests = False

    def _may_read_stale(self, request: Request) -> bool:
        """True if the reply, or the result of a write, may come from a stale value. A write that replaces the value is always welcome."""
        if request.command.overwrites or not request.key:
            return False
        changes = request.command.is_write
        if not self.behind and (changes or not self._others_have_any()):
            return False
        if request.keys is not None:
            return any([self.may_be_old(key, changes) for key in request.keys])
        return self.may_be_old(request.key, changes)

    def has_old(self) -> bool:
        """True if some of its keys may be old."""
        return self.behind or self._others_have_any()

    def may_be_old(self, key: bytes, changes: bool) -> bool:
        """True if `key` is in the journal or, for a request that only reads, in that of another worker. (A change that was refused for
        that would come into ours, and so be refused by the other, and so on.)"""
        if self.behind and key in self.invalidations:
            return True
        return not changes and self._others_have_any() and self.shared_invalidations.others_have(key)

    def _others_have_any(self) -> bool:
        """True if another worker has anything to delete here."""
        states = self._states
        if states is None:
            return False
        for number in range(len(states)):
            if states[number] and number != self._worker_number:
                return True
        return False

    def share_invalidations(self, shared: Any) -> None:
        """Share the pending invalidations with the other workers through `shared`; with None, stop sharing."""
        if shared is None and self.shared_invalidations is not None:
            self.shared_invalidations.replace_parts(())  # who comes back here begins anew
        self.shared_invalidations = self.invalidations.shared = shared
        self._states = None if shared is None else shared.states
        self._worker_number = 0 if shared is None else shared.worker

    def missed_change(self, request: Request) -> None:
        """The change `request` did not reach this server, or perhaps did not."""
        if request.key:
            for key in request.keys or (request.key,):
                self.missed_key(key)
        else:  # flush_all
            self.missed_everything()

    def void_fills(self, request: Request) -> None:
        """The change `request` is about to be sent: what is being fetched of its keys will be old."""
        if changes_value(request):
            for key in request.keys or (request.key,):
                self.void_fill(key)

    def void_fill(self, key: bytes) -> None:
        """What is being fetched of `key` is not to be added here."""
        self.fetches.pop(key, None)

    def missed_everything(self) -> None:
        self.behind = True
        self.fetches.clear()
        self.invalidations.note_everything(monotonic())

    def missed_key(self, key: bytes) -> None:
        """What this server has under `key` may be old, until it was deleted."""
        self.behind = True
        self.void_fill(key)
        if self.invalidations.note(key, monotonic()):
            self._overflowed()

    def _overflowed(self) -> None:
        self.log.warning("journal overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    def has_guest(self, key: bytes) -> None:
        """`key` belongs to another server, which is away, and came here."""
        if len(self.guests) < self.invalidations.limit:
            self.guests.add(key)
        elif not self._full_of_guests:
            self._full_of_guests = True
            self.log.warning("guests overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    def is_guest(self, key: bytes) -> bool:
        """True if `key` has come here and not left, or may have: not all that came are known."""
        return key in self.guests or self._full_of_guests

    def guest_leaves(self, key: bytes) -> None:
        """`key` changes where it belongs."""
        if self.is_guest(key):
            self.guests.discard(key)
            self.missed_key(key)

    def guests_leave(self, or_all: bool = False) -> None:
        """From now on other servers may be asked for them again. `or_all`: if not all are known, let all that is here go."""
        if self._full_of_guests and or_all:
            self.missed_everything()
        if self.guests:
            self.behind = True
            if self.invalidations.note_all(self.guests, monotonic()):
                self._overflowed()
            self.guests = KeySet()
        self.fetches.clear()
        self._full_of_guests = False

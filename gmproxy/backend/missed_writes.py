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


class MissedWrites(ConnectionOwner):
    """The part of a Backend that knows what the server missed. Methods: loop callback or greenlet; none blocks.

    label, log            of the server, for the log
    log_name              the server, and its pool if that has a name, as fields of a log line
    invalidations         PendingInvalidations
    behind                True while there are pending invalidations
    shared_invalidations  those of all workers (gmproxy.process.shared_invalidations.ServerInvalidations), or None
    stand_in_keys         keys that were written here while their own server was ejected or failed
    fetches               fills that may be made: {key: the gmproxy.routing.fetch.Fetch that looks it up}
    """

    __slots__ = ("label", "log", "log_name", "invalidations", "behind", "shared_invalidations", "stand_in_keys", "fetches", "_states",
                 "_worker_number", "_stand_in_keys_overflowed")  # fmt: skip

    def __init__(self, label: str, log: Any, journal_size: int) -> None:
        self.label = label
        self.log = log
        self.log_name = f"server={label}{getattr(log, 'suffix', '')}"
        self.invalidations = PendingInvalidations(journal_size)
        self.behind = False
        self.shared_invalidations: Any = None
        self._states: Any = None  # whether each worker has shared invalidations, by the worker's number
        self._worker_number = 0
        self.stand_in_keys = KeySet()
        self.fetches: dict[bytes, Any] = {}
        self._stand_in_keys_overflowed = False  # there are others than those in stand_in_keys

    # -- what may be stale

    def _may_read_stale(self, request: Request) -> bool:
        """True if the reply to `request`, or the result of a write, may depend on a stale value. A write that replaces the value never does."""
        if request.command.overwrites or not request.key:
            return False
        is_write = request.command.is_write
        if not self.behind and (is_write or not self._others_have_any()):
            return False
        if request.keys is not None:
            return any([self.may_be_stale(key, is_write) for key in request.keys])
        return self.may_be_stale(request.key, is_write)

    def may_have_stale_keys(self) -> bool:
        return self.behind or self._others_have_any()

    def may_be_stale(self, key: bytes, is_write: bool) -> bool:
        """True if `key` has a pending invalidation, here or, for a read, in another worker. (A write that is refused gets a pending invalidation
        here, for which the other worker would refuse its writes, and so on without end.)"""
        if self.behind and key in self.invalidations:
            return True
        return not is_write and self._others_have_any() and self.shared_invalidations.others_have(key)

    def _others_have_any(self) -> bool:
        """True if another worker has pending invalidations of this server."""
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
            self.shared_invalidations.replace_parts(())  # the next user of this shared memory starts without any
        self.shared_invalidations = self.invalidations.shared = shared
        self._states = None if shared is None else shared.states
        self._worker_number = 0 if shared is None else shared.worker

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

    def _log_overflow(self) -> None:
        self.log.warning("journal overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    # -- fills: a fetch that was started and not voided may add its value here

    def start_fill(self, key: bytes, fetch: Any) -> None:
        """`fetch` starts to look up `key`. If another fetch does already, that one will fill it."""
        self.fetches.setdefault(key, fetch)

    def end_fill(self, key: bytes, fetch: Any) -> bool:
        """The lookup of `key` by `fetch` has ended. True if `fetch` may fill the key: no other fetch does, and it was not voided."""
        if self.fetches.get(key) is not fetch:
            return False
        del self.fetches[key]
        return True

    def void_fills_of_write(self, request: Request) -> None:
        """The write `request` is about to be sent: values of its keys that are being fetched will be stale."""
        if changes_value(request):
            for key in request.all_keys():
                self.void_fill_of_key(key)

    def void_fill_of_key(self, key: bytes) -> None:
        self.fetches.pop(key, None)

    def void_all_fills(self) -> None:
        self.fetches.clear()

    # -- stand-in keys

    def add_stand_in_key(self, key: bytes) -> None:
        """`key`, whose own server is ejected or failed, is about to be written here."""
        if len(self.stand_in_keys) < self.invalidations.limit:
            self.stand_in_keys.add(key)
        elif not self._stand_in_keys_overflowed:
            self._stand_in_keys_overflowed = True
            self.log.warning("guests overflowed server=%s keys=%d", self.label, self.invalidations.limit)

    def may_be_stand_in_key(self, key: bytes) -> bool:
        return key in self.stand_in_keys or self._stand_in_keys_overflowed

    def drop_stand_in_key(self, key: bytes) -> None:
        """`key` is written on its own server. If it is a stand-in key, it is stale here."""
        if self.may_be_stand_in_key(key):
            self.stand_in_keys.discard(key)
            self.missed_key(key)

    def drop_stand_in_keys(self, or_everything: bool = False) -> None:
        """All stand-in keys have another server from now on: they are stale here. `or_everything`: if there were too many to know all of them, every
        key of this server is."""
        if self._stand_in_keys_overflowed and or_everything:
            self.missed_everything()
        if self.stand_in_keys:
            self.behind = True
            if self.invalidations.note_all(self.stand_in_keys, monotonic()):
                self._log_overflow()
            self.stand_in_keys = KeySet()
        self.void_all_fills()
        self._stand_in_keys_overflowed = False

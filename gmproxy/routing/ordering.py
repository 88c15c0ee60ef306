"""Keeps the requests of one client in order, in pools with backups.

The requests of a client are sent together, a batch at a time. Without backups nothing else is needed: requests for one key go to one server over
one connection, and so stay in order. With backups a request may be sent a second time, or later than it was read, and a request behind it must
not reach the server first.
"""

from gmproxy.protocol.request import Request
from gmproxy.routing.router import Router


class BatchOrder:
    """The keys that the batch of one client uses so far. For its session, in a loop callback or its greenlet.

    _keys_read   keys that the batch reads, or writes depending on the stored value; None until they are needed
    _seen        how many requests of the batch have their keys in it
    _keys_held   keys of writes that were held when they were sent, or may have been; b"" for a flush_all; None until they are needed
    _held_seen   how many requests of the batch have their keys in it
    """

    __slots__ = ("_router", "_keys_read", "_seen", "_keys_held", "_held_seen")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._keys_read: set[bytes] | None = None
        self._seen = 0
        self._keys_held: set[bytes] | None = None
        self._held_seen = 0

    def must_wait(self, request: Request, batch: list[Request]) -> bool:
        """True if `request` must not be sent before the requests in `batch` have their replies.

        A write waits for earlier reads of its key: a read that fails on the primary is sent to the backup, and must not find there what its
        client wrote later. It also waits for earlier conditional writes: their copy is only sent once the primary has made them. Both wait for a
        write that is held until the key was filled, or until the backup has deleted it.
        """
        if self._router.held:
            held = self._held_keys(batch)
            if held and (b"" in held or not held.isdisjoint(request.all_keys())):
                return True
        return request.command.is_write and not self._keys_of_reads(batch).isdisjoint(request.all_keys())

    def finish_batch(self) -> None:
        """All requests of the batch have replies."""
        self._keys_read = None
        self._keys_held = None

    def _keys_of_reads(self, batch: list[Request]) -> set[bytes]:
        """Adds each key once, however many writes follow."""
        if self._keys_read is None:
            self._keys_read = set()
            self._seen = 0
        for number in range(self._seen, len(batch)):
            earlier = batch[number]
            if earlier.command is not None and (earlier.command.is_read or earlier.command.reads_old_value):
                self._keys_read.update(earlier.all_keys())
        self._seen = len(batch)
        return self._keys_read

    def _held_keys(self, batch: list[Request]) -> set[bytes]:
        """Adds each key once, and leaves those of writes that are no longer held. Of a write of several keys, parts are held, which the batch does
        not have."""
        if self._keys_held is None:
            self._keys_held = set()
            self._held_seen = 0
        for number in range(self._held_seen, len(batch)):
            earlier = batch[number]
            if earlier in self._router.held or (earlier.keys is not None and earlier.command is not None and earlier.command.is_write):
                self._keys_held.update(earlier.all_keys())
        self._held_seen = len(batch)
        return self._keys_held

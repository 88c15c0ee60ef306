"""The order in which the requests of one client reach the servers.

A client's requests are sent together, a batch at a time. Without backups that is all there is to it: requests for one key go to one server
over one connection, and so in order. With backups a request may be sent a second time, or later than it was read, and then another one that
was behind it must not be there first.
"""

from collections.abc import Iterable

from gmproxy.protocol.request import Request
from gmproxy.routing.router import Router


def keys_of(request: Request) -> Iterable[bytes]:
    return request.keys if request.keys is not None else (request.key,)


class BatchOrder:
    """What the batch of one client has asked for so far. For a session's greenlet; never waits."""

    __slots__ = ("_router", "_keys_read", "_seen")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._keys_read: set[bytes] | None = (
            None  # keys that the batch reads, or changes depending on the old value, as a set; None until that matters
        )
        self._seen = 0  # requests of the batch whose keys are among them

    def must_wait(self, request: Request, batch: list[Request]) -> bool:
        """True if `request` must not be sent before the requests in the list `batch` are answered.

        That is a change of a key that the batch reads, or changes depending on the old value: should the read have to be repeated on the
        backup, it must not find there what its client wrote later, nor must a copy that is only made once the primary has agreed come
        after the next one. And a read does not overtake a request that waits for its key to be filled.
        """
        if request.command.is_write:
            return not self._keys_of_reads(batch).isdisjoint(keys_of(request))
        return bool(self._router.held) and not self._held_keys(batch).isdisjoint(keys_of(request))

    def finish_batch(self) -> None:
        """The batch is answered."""
        self._keys_read = None

    def _keys_of_reads(self, batch: list[Request]) -> set[bytes]:
        """Each key is put there once, however many changes follow."""
        if self._keys_read is None:
            self._keys_read = set()
            self._seen = 0
        for number in range(self._seen, len(batch)):
            earlier = batch[number]
            if earlier.command is not None and (earlier.command.is_read or earlier.command.reads_old_value):
                self._keys_read.update(keys_of(earlier))
        self._seen = len(batch)
        return self._keys_read

    def _held_keys(self, batch: list[Request]) -> set[bytes]:
        return {earlier.key for earlier in batch if earlier in self._router.held}

"""Where a value is looked up that a server lacks: on the servers of the key in other sets, one after the other."""

from typing import TYPE_CHECKING

from gmproxy.backend.backend import Backend
from gmproxy.protocol import cas_numbers
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.shard import Shard
from gmproxy.routing.step import Step

#: How the replies begin that are misses: EN of the meta protocol, END of the text protocol.
MISS = b"EN"


class Sources(Route):
    """For lookups of one key: sends each to the sets of `shards` in order, until one of them has the key. If none has it and one has failed, the
    lookup fails. Cas numbers in the reply are marked.

    shards    a Shard for each set
    sets      one more than the highest index of a set of the pool
    """

    __slots__ = ("shards", "sets")

    def __init__(self, shards: list[Shard], sets: int) -> None:
        self.shards = shards
        self.sets = sets

    def send(self, request: Request) -> ReplySink | None:
        lookup = Lookup.__new__(Lookup)
        lookup.begin(request, self.shards)
        return lookup.ask_next(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return [hop for shard in self.shards for hop in shard.explain(key, is_write)]

    def servers_of(self, key: bytes) -> list[Backend]:
        """The servers that may be asked for `key`, in order. Loop callback or greenlet."""
        return [shard.server_of(key) for shard in self.shards]


class Lookup(Step):
    """On a lookup, wherever it is sent: sends it to the next set if it found nothing.

    error, failed_server   of the first server that failed, as in Request
    """

    __slots__ = ("error", "failed_server", "_shards", "_number")

    if TYPE_CHECKING:
        _shards: list[Shard]

    def begin(self, request: Request, shards: list[Shard]) -> None:
        """Step in."""
        self.error: str | None = None
        self.failed_server: str | None = None
        self._shards = shards
        self._number = -1
        self.step_in(request)

    def ask_next(self, request: Request) -> ReplySink | None:
        """Returns as Route.send."""
        self._number += 1
        return self._shards[self._number].send(request)

    def on_reply(self, request: Request) -> ReplySink | None:
        if not request.reply.startswith(MISS):
            cas_numbers.mark(request, self._shards[self._number].server_of(request.key).set_index)
            return Step.on_reply(self, request)
        return self._go_on(request)

    def on_failure(self, request: Request) -> ReplySink | None:
        if self.error is None:
            self.error = request.error
            self.failed_server = request.failed_server
        return self._go_on(request)

    def _go_on(self, request: Request) -> ReplySink | None:
        if self._number + 1 < len(self._shards):
            request.sink = self
            request.reply = None
            return self.ask_next(request)
        self.step_out(request)
        if self.error is not None:
            return request.fail(self.error, self.failed_server or "")
        return request.complete()

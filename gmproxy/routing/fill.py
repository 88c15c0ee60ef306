"""A primary whose memory is new or has holes is filled again by what its clients ask for.

While a miss there proves nothing (`ask_backup_on_miss` of the server), the backup is asked; the client gets the backup's value, and the primary
gets it too (fetch.py). A change that depends on what the server has, such as incr, is sent once its key was filled again.
"""

from collections.abc import Callable

from gmproxy.backend.backend import Backend
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.protocol.value_blocks import END
from gmproxy.routing.fetch import Fetching, MetaRefill, Refill
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import GuestNotes
from gmproxy.routing.step import Step

#: How the answer of a server begins that has nothing, in the meta protocol as well.
MISS = b"EN"


class Fill(Route):
    """For all that is asked of `server`; concerns what reads.

    source   the backups
    adds     the route by which the server gets the values that it had not
    """

    __slots__ = ("server", "source", "adds")

    def __init__(self, server: Backend, source: Shard, adds: Route) -> None:
        self.server = server
        self.source = source
        self.adds = adds

    def send(self, request: Request) -> ReplySink | None:
        if request.command.is_read:
            check = MissCheck.__new__(MissCheck)
            check.route = self
            check.step_in(request)
        return self.server.send(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        way = self.server.explain(key, is_change)
        if self.server.ask_backup_on_miss and not is_change:
            way.append(Hop("fill", self.source.server_of(key).label, f"a miss is looked up there, and {self.server.label} is filled"))
        return way

    def missed(self, request: Request) -> ReplySink | None:
        """The server has no value for a key of `request`, but that proves nothing."""
        kind = MetaRefill if request.command.is_meta else Refill
        return kind(request, self.server, self.source, self.adds).ask()


class MissCheck(Step):
    """A request that reads, on its way to the server of the Fill `route`."""

    __slots__ = ("route",)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        if self.route.server.ask_backup_on_miss and self._is_miss(request):
            return self.route.missed(request)
        return request.complete()

    def _is_miss(self, request: Request) -> bool:
        """True if the reply is without a value for a key that was asked for, and is no error."""
        asked = 1 if request.keys is None else len(request.keys)
        return request.values_found < asked and (request.reply.endswith(END) or request.reply.startswith(MISS))


class Adds(Route):
    """Values from the backups go to `server`, which is filled.

    notes      GuestNotes while other servers are ejected, else None
    replaced   True once the pool has another route: keys may have other servers now, and changes other copies
    """

    __slots__ = ("server", "notes", "replaced")

    def __init__(self, server: Backend, notes: GuestNotes | None) -> None:
        self.server = server
        self.notes = notes
        self.replaced = False

    def send(self, request: Request) -> ReplySink | None:
        """`request` is without a sink: nobody waits for it."""
        if self.replaced:
            return None  # the backup that was asked may lack a change, and what was noted of the key may have been deleted already
        if self.notes is not None:
            self.notes.filled(request, self.server)
        self.server.counters.fills += 1
        return self.server.send(request)


class FillBeforeChange(Route):
    """For changes. One that depends on what the server has waits until its key was filled.

    main      where the others go
    held      the requests that wait, of the pool
    release   sends one of them on its way, by the route that the pool has then
    """

    __slots__ = ("main", "fill", "held", "release")

    def __init__(self, main: Route, fill: Fill, held: set[Request], release: Callable[[Request], ReplySink | None]) -> None:
        self.main = main
        self.fill = fill
        self.held = held
        self.release = release

    def send(self, request: Request) -> ReplySink | None:
        fill = self.fill
        if not (request.command.reads_old_value and fill.server.ask_backup_on_miss):
            return self.main.send(request)
        self.held.add(request)
        return FetchFirst(request, fill, self).fetch([request.key])

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        way = self.main.explain(key, is_change)
        if not self.fill.server.ask_backup_on_miss:
            return way
        source = self.fill.source.server_of(key).label
        return [Hop("fill", source, f"a change of the present value waits until {self.fill.server.label} is filled"), *way]


class FetchFirst(Fetching):
    """For a change that depends on what the server has: fills its key, then sends it on its way."""

    __slots__ = ("route",)

    def __init__(self, request: Request, fill: Fill, route: FillBeforeChange) -> None:
        super().__init__(request, fill.server, fill.source, fill.adds)
        self.route = route

    def done(self) -> ReplySink | None:
        self.route.held.discard(self.request)
        if self.request.sink is None:
            return None  # it was abandoned
        return self.route.release(self.request)

    def on_internal_error(self, question: Request) -> ReplySink | None:
        self.route.held.discard(self.request)
        return Fetching.on_internal_error(self, question)

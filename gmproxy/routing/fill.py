"""Fills a primary whose memory is new, or lacks keys that the backup has, with the values that its clients read.

While a miss of the primary proves nothing (`Backend.ask_backup_on_miss`), the value is looked up on the backup: the client gets it, and the
primary is filled with it (fetch.py). A write that depends on the stored value, such as incr, is sent after its key was filled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import cas_numbers
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.protocol.value_blocks import END
from gmproxy.routing.failover import Failover, PrimaryAttempt, reply_exists
from gmproxy.routing.fetch import Fetch, FetchForMetaGet, FetchForRead
from gmproxy.routing.fill_rules import FillRules
from gmproxy.routing.sources import Sources
from gmproxy.routing.stand_in import HomeRing
from gmproxy.routing.step import Step

#: How the replies that are misses begin: END, and EN of the meta protocol.
MISS = b"EN"


class Fill(Route):
    """Sends every request on to `server`, the primary; looks up on the backups what a read did not find there.

    source       the Sources: the sets in which a value is looked up
    sets         of `source`
    fill_writes  the route by which the server is filled
    rules        the pool's FillRules
    """

    __slots__ = ("server", "source", "sets", "fill_writes", "rules")

    def __init__(self, server: Backend, source: Sources, fill_writes: Route, rules: FillRules) -> None:
        self.server = server
        self.source = source
        self.sets = source.sets
        self.fill_writes = fill_writes
        self.rules = rules

    def send(self, request: Request) -> ReplySink | None:
        if request.command.is_read:
            check = MissCheck.__new__(MissCheck)
            check.route = self
            check.step_in(request)
        return self.server.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        hops = self.server.explain(key, is_write)
        if self.is_needed() and not is_write:
            hops.append(self.hop(key, "looked up there on a miss"))
        return hops

    def is_needed(self) -> bool:
        """True while a miss of the server proves nothing. Loop callback or greenlet."""
        return self.server.ask_backup_on_miss

    def hop(self, key: bytes, action: str) -> Hop:
        """The Hop for `key`: "`action`; a hit fills <label of the primary>"."""
        effect = f"a hit fills {self.server.label}" if self.server.options.fills_enabled else "fills are off"
        first, *others = [server.label for server in self.source.servers_of(key)]
        return Hop("fill", first, "; ".join([action, *(f"then on {other}" for other in others), effect]))

    def complete(self, read: Request) -> ReplySink | None:
        """The server has replied to `read`: complete it, after what the reply lacks has been looked up where that is needed. Returns the session that
        waits for no further reply, or None. Loop callback or greenlet."""
        if self.server.ask_backup_on_miss:
            asked = 1 if read.keys is None else len(read.keys)
            if read.values_found < asked and (read.reply.endswith(END) or read.reply.startswith(MISS)):  # not an error
                return self.fill_after(read)
        return read.complete()

    def fill_after(self, read: Request) -> ReplySink | None:
        """Look up on the backups what the reply to `read` lacks, then complete it. Returns the session that waits for no further reply, or None.
        Loop callback or greenlet."""
        if self.rules.are_suspended(self.server):
            return read.complete()
        kind = FetchForMetaGet if read.command.is_meta else FetchForRead
        return kind(read, self.server, self.source, self.fill_writes, self.rules).start()

    def may_fill(self, key: bytes) -> bool:
        """True if the value of `key` may be copied from another set. Loop callback or greenlet."""
        return not self.rules.exclude(self.server, self.source.servers_of(key))

    def fill_before(self, write: Request, route: "FillBeforeWrite") -> ReplySink | None:
        """Fill the key of `write`, then have `route` release it. Returns as `fill_after`. Loop callback or greenlet."""
        fetch = FetchForWrite(write, self, route)
        return fetch.fetch([write.key]) if fetch.may_fetch(write.key) else fetch.done()


class MissCheck(Step):
    """On a read that was sent to the server of `route`, a Fill, which completes it."""

    __slots__ = ("route",)

    if TYPE_CHECKING:
        route: Fill

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return self.route.complete(request)


class FillOrFailover(Failover):
    """A Failover whose primary is the Fill `fill`. On the way of each get, so it makes one step of those of both."""

    __slots__ = ("fill",)

    def __init__(self, fill: Fill, backup: Route) -> None:
        super().__init__(fill, backup)
        self.fill = fill

    def send(self, request: Request) -> ReplySink | None:
        if not request.command.is_read:
            return Failover.send(self, request)
        attempt = ReadAttempt.__new__(ReadAttempt)
        attempt.backup = self.backup
        attempt.fill = self.fill
        attempt.step_in(request)
        return self.fill.server.send(request)


class ReadAttempt(PrimaryAttempt):
    """A PrimaryAttempt and a MissCheck in one."""

    __slots__ = ("fill",)

    if TYPE_CHECKING:
        fill: Fill

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        return self.fill.complete(request)


class FillWrites(Route):
    """For the writes that fill `server`.

    home_ring   the HomeRing while other servers are ejected, else None
    replaced    True once the pool has other routes: this primary may have lost the key, or the backup may no longer receive copies
    """

    __slots__ = ("server", "home_ring", "replaced")

    def __init__(self, server: Backend, home_ring: HomeRing | None) -> None:
        self.server = server
        self.home_ring = home_ring
        self.replaced = False

    def send(self, request: Request) -> ReplySink | None:
        if self.replaced or not self.server.options.fills_enabled:
            # If replaced: the value may be stale, and the pending invalidation that shows it may be done already.
            return request.fail(EJECTED, self.server.label)
        if self.home_ring is not None:
            self.home_ring.note_fill(request, self.server)
        self.server.counters.fills += 1
        return self.server.send(request)


class FillBeforeWrite(Route):
    """For writes. One that depends on the stored value is held until its key was filled, while that is needed. One with a cas number of the backup is
    refused unless it is for the backup to decide, because the primary fails (protocol/cas_numbers.py).

    next_route   where the other writes are sent
    fill         the Fill of the primary
    held         the held writes of the pool, on all its routes
    release      sends a held write by the routes that the pool has then
    """

    __slots__ = ("next_route", "fill", "held", "release")

    def __init__(self, next_route: Route, fill: Fill, held: set[Request], release: Callable[[Request], ReplySink | None]) -> None:
        self.next_route = next_route
        self.fill = fill
        self.held = held
        self.release = release

    def send(self, request: Request) -> ReplySink | None:
        command = request.command
        server = self.fill.server
        if command.conditional and not server.is_backup and cas_numbers.set_of(request, self.fill.sets):
            return self.next_route.send(request) if server.is_expected_to_fail(request) else reply_exists(request, server)
        if not (command.reads_old_value and self.fill.is_needed() and self.fill.may_fill(request.key)):
            return self.next_route.send(request)
        self.held.add(request)
        try:
            return self.fill.fill_before(request, self)
        except Exception:
            self.held.discard(request)
            raise

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        hops = self.next_route.explain(key, is_write)
        if not self.fill.is_needed():
            return hops
        return [self.fill.hop(key, "looked up there before a write that depends on the stored value"), *hops]

    def on_filled(self, write: Request) -> ReplySink | None:
        """The lookup for `write` has ended, with a value or without. Returns the session that waits for no further reply, or None."""
        self.held.discard(write)
        if write.sink is None:
            return None  # it was abandoned
        return self.release(write)


class FetchForWrite(Fetch):
    """For a write that depends on the stored value: fills its key, then returns the write to `route`, which held it."""

    __slots__ = ("route",)

    def __init__(self, request: Request, fill: Fill, route: FillBeforeWrite) -> None:
        super().__init__(request, fill.server, fill.source, fill.fill_writes, fill.rules)
        self.route = route

    def done(self) -> ReplySink | None:
        return self.route.on_filled(self.request)

    def on_internal_error(self, lookup: Request) -> ReplySink | None:
        self.route.held.discard(self.request)
        return Fetch.on_internal_error(self, lookup)

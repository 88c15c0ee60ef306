"""Keeps stand-in servers consistent: while a server is ejected, the others have its keys (auto_eject_hosts).

A write of such a key is noted on two servers. The ejected server missed it, so the key is added to its pending invalidations. The stand-in
server has the key only until the ring changes again; then the key is added to the pending invalidations of the stand-in server.
"""

from collections.abc import Callable

from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.placement.locators import Locator
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.replica_commands import limit_life
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.step import Step


class HomeRing:
    """The ring with all servers of a pool, while some of them are ejected. The home server of a key is its server on this ring.

    servers        all servers of the pool, by the indexes of `home_locator`
    home_locator   key -> index of its home server
    max_life       seconds that a value is kept on a stand-in server at most; 0: unlimited
    """

    def __init__(self, servers: list[Backend], home_locator: Locator, max_life: int) -> None:
        self.servers = servers
        self.home_locator = home_locator
        self.max_life = max_life

    def note_write(self, request: Request, key: bytes, server: Backend) -> None:
        """`request` is about to write `key` on `server`. Loop callback or greenlet."""
        home = self.home_of(key)
        if home is not server:
            home.missed_key(key)
            self._note_stand_in(request, key, server)

    def note_fill(self, request: Request, server: Backend) -> None:
        """`request` is about to fill `server` with a value. Loop callback or greenlet."""
        if self.home_of(request.key) is not server:
            self._note_stand_in(request, request.key, server)

    def may_have_stale(self, request: Request, server: Backend) -> bool:
        """True if `server` is a stand-in for a key of `request`, and may have a stale value of it, written in another worker when it was a stand-in
        before."""
        return server.may_lag() and any(self.home_of(key) is not server for key in request.all_keys())

    def home_of(self, key: bytes) -> Backend:
        return self.servers[self.home_locator.locate(key)]

    def _note_stand_in(self, request: Request, key: bytes, server: Backend) -> None:
        server.add_stand_in_key(key)
        if self.max_life and request.keys is None:
            request.line = limit_life(request.command, request.line, self.max_life)


class StandInReads(Route):
    """For reads, while servers are ejected: fails those of keys that `server`, a stand-in for them, may have from an earlier time in another worker,
    and sends the others on to `next_route`."""

    __slots__ = ("server", "next_route", "home_ring")

    def __init__(self, server: Backend, next_route: Route, home_ring: HomeRing) -> None:
        self.server = server
        self.next_route = next_route
        self.home_ring = home_ring

    def send(self, request: Request) -> ReplySink | None:
        if self.home_ring.may_have_stale(request, self.server):
            return request.fail(EJECTED, self.server.label)
        return self.next_route.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return self.next_route.explain(key, is_write)


class StandInWrites(Route):
    """For writes, while servers are ejected: notes those of keys for which `server` is a stand-in, then sends the request on to `next_route`."""

    __slots__ = ("server", "next_route", "home_ring")

    def __init__(self, server: Backend, next_route: Route, home_ring: HomeRing) -> None:
        self.server = server
        self.next_route = next_route
        self.home_ring = home_ring

    def send(self, request: Request) -> ReplySink | None:
        if request.command.reads_old_value and self.home_ring.may_have_stale(request, self.server):
            return request.fail(EJECTED, self.server.label)
        for key in request.all_keys():
            self.home_ring.note_write(request, key, self.server)
        return self.next_route.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        home = self.home_ring.home_of(key)
        hops = self.next_route.explain(key, is_write)
        if home is self.server:
            return hops
        return [Hop("stand_in", self.server.label, f"stand-in for {home.label} while that is ejected"), *hops]


class LateWrite(Step):
    """A write that was in flight to `server` when its key moved to another server.

    The key was added to the pending invalidations of `server` at that moment, and may be deleted there before this write is made. So it is added
    again when the reply arrives.
    """

    __slots__ = ("server",)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.server.missed_write(request)
        return Step.on_reply(self, request)


def watch_late_writes(server: Backend, owner_of: Callable[[bytes], Backend | None]) -> None:
    """Put a LateWrite on each write in flight to `server` whose key has another server now: `owner_of(key)`. Loop callback or greenlet."""
    for connection in server.connections:
        if connection is None:
            continue
        for request in connection.waiting:
            if request.command.is_write and any(owner_of(key) is not server for key in request.all_keys()):
                late = LateWrite.__new__(LateWrite)
                late.server = server
                late.step_in(request)

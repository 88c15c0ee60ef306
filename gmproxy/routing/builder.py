"""Composes the route of a pool from its servers, its settings and which servers are ejected.

    a pool of primaries                    Shard -> the server
    ... some of them ejected               Shard -> StandIn (changes) -> the server
    with backups, reads                    Shard -> Failover -> Fill -> the server
                                                            -> ActingMain -> the backup, if that failed
    with backups, changes                  Shard -> FillBeforeChange -> StandIn -> Replicate -> the server, and the backup
    ... with backup_writes = off           Shard -> FillBeforeChange -> StandIn -> Standby -> Fill -> the server

What a pool does not use is not in its route, and costs nothing. Routes are immutable: when a server is ejected or restored, or the configuration is
loaded again, a new route replaces the old one, and requests in flight end on the route they began with.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.failover import ActingMain, Failover, Standby
from gmproxy.routing.fill import Adds, Fill, FillBeforeChange
from gmproxy.routing.replicate import Replicate, UndecidedChanges
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import GuestNotes, StandIn


class Routes(NamedTuple):
    """
    entry    for the requests of clients
    filled   for their changes whose key was filled meanwhile (FillBeforeChange)
    own      for those of another gmproxy, whose backups these servers are: neither copied nor looked up anywhere else
    adds     what fills the primaries
    """

    entry: Shard
    filled: Shard
    own: Shard
    adds: list[Adds]


class Builder:
    """Has what outlives a route: the counters, the changes whose outcome is not known, and the requests that wait to be sent.

    held   changes that wait until their key was filled
    """

    def __init__(self, options: Any, release: Callable[[Request], ReplySink | None]) -> None:
        """`options` of the pool; `release` sends one of `held`, by the route that the pool has then."""
        self.counters = RouteCounters()
        self.undecided = UndecidedChanges()
        self.held: set[Request] = set()
        self._options = options
        self._release = release

    def compose(
        self, servers: list[Backend], locator: Locator, backups: list[Backend], backup_locator: Locator | None, notes: GuestNotes | None
    ) -> Routes:
        """`locator` places keys on `servers`, `backup_locator` on `backups`, if there are any. `notes`: while servers are ejected whose keys
        others have."""
        own_changes = self._stand_in(servers, list(servers), notes)
        own = Shard(locator, servers, list(servers), own_changes, self.counters)
        if backup_locator is None:
            return Routes(own, own, own, [])
        copies = Shard(backup_locator, backups, list(backups), list(backups), self.counters)
        copying = self._options.backup_writes != "off"
        acting: list[Route] = [ActingMain(backup, not copying) for backup in backups]
        acting_main = Shard(backup_locator, backups, acting, acting, self.counters)
        adds = [Adds(server, notes) for server in servers]
        fills = [Fill(server, copies, its_adds) for server, its_adds in zip(servers, adds)]
        reads: list[Route] = [Failover(fill, acting_main) for fill in fills]
        changes: list[Route]
        if copying:
            changes = [self._replicate(server, main, copies, acting_main) for server, main in zip(servers, reads)]
        else:
            changes = [Standby(fill, acting_main, copies) for fill in fills]
        changes = self._stand_in(servers, changes, notes)
        waiting: list[Route] = [FillBeforeChange(change, fill, self.held, self._release) for change, fill in zip(changes, fills)]
        entry = Shard(locator, servers, reads, waiting, self.counters)
        return Routes(entry, Shard(locator, servers, reads, changes, self.counters), own, adds)

    def _replicate(self, server: Backend, main: Route, copies: Shard, acting_main: Shard) -> Replicate:
        waited_for = self._options.backup_writes == "sync"
        return Replicate(server, main, copies, acting_main, self.undecided, waited_for, self.counters)

    @staticmethod
    def _stand_in(servers: list[Backend], changes: list[Route], notes: GuestNotes | None) -> list[Route]:
        """The routes for changes, each by way of a StandIn if servers are ejected."""
        if notes is None:
            return changes
        return [StandIn(server, change, notes) for server, change in zip(servers, changes)]

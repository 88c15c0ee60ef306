"""Composes the routes of a pool from its servers, its settings and which servers are ejected.

    a pool without backups               Shard -> the server
    ... while servers are ejected        Shard -> StandInReads or StandInWrites -> the server
    with backups, reads                  Shard -> Failover -> Fill -> the server
                                                           -> BackupAsPrimary -> the backup, if that failed
    with backups, writes                 Shard -> FillBeforeWrite -> AwaitFills -> StandInWrites -> Replicate -> the server, the backup
    ... with proxies = several           Shard -> FillBeforeWrite -> AwaitFills -> BackupFirst -> StandInWrites -> Replicate -> ...
    ... with backup_writes = off         Shard -> FillBeforeWrite -> AwaitFills -> StandInWrites -> WriteFailover -> Fill -> the server
                                                           -> BackupAsPrimary -> the backup, if that failed

What a pool does not use is not in its routes, and costs nothing. Routes are immutable: when a server is ejected or restored, or the configuration
is reloaded, new routes replace the old ones. Requests in flight end on the routes that they began with.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import Fill, FillBeforeWrite, FillOrFailover, FillWrites
from gmproxy.routing.fill_rules import FillRules
from gmproxy.routing.held_writes import AwaitFills, HeldWrites
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.replicated_write import UndecidedWrites
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import HomeRing, StandInReads, StandInWrites


class Routes(NamedTuple):
    """
    entry        for the requests of clients
    after_fill   for their writes that were held by FillBeforeWrite until their key was filled
    own          for the requests of another gmproxy that has these servers as backups: neither copied nor looked up on our backups
    fill_writes  what fills each primary
    """

    entry: Shard
    after_fill: Shard
    own: Shard
    fill_writes: list[FillWrites]


class Builder:
    """Also has what outlives the routes of a pool.

    counters    RouteCounters
    undecided   UndecidedWrites
    held        writes that are held until their key was filled, or the backup has deleted it
    held_writes those of them that wait for the fills of other workers (HeldWrites)
    fill_rules  FillRules
    """

    def __init__(self, options: Any, release: Callable[[Request], ReplySink | None]) -> None:
        """`options` of the pool; `release` sends one of `held` by the routes that the pool has then."""
        self.counters = RouteCounters()
        self.undecided = UndecidedWrites()
        self.held: set[Request] = set()
        self.held_writes = HeldWrites(self.held, options)
        self.fill_rules = FillRules(options)
        self._options = options
        self._release = release

    def compose(
        self, servers: list[Backend], locator: Locator, backups: list[Backend], backup_locator: Locator | None, home_ring: HomeRing | None
    ) -> Routes:
        """`locator` places keys on `servers`, and `backup_locator` on `backups`; None without backups. `home_ring`: given while servers are ejected
        and others have their keys. Loop callback or greenlet."""
        own_reads = self._check_stand_ins(servers, list(servers), home_ring)
        own = Shard(locator, servers, own_reads, self._note_stand_ins(servers, list(servers), home_ring), self.counters)
        if backup_locator is None:
            return Routes(own, own, own, [])
        copies = Shard(backup_locator, backups, list(backups), list(backups), self.counters)
        has_copies = self._options.backup_writes != "off"
        substitutes: list[Route] = [BackupAsPrimary(backup, not has_copies) for backup in backups]
        backup_as_primary = Shard(backup_locator, backups, substitutes, substitutes, self.counters)
        fill_writes = [FillWrites(server, home_ring) for server in servers]
        fills = [Fill(server, copies, fill_write, self.fill_rules) for server, fill_write in zip(servers, fill_writes)]
        reads: list[Route] = [FillOrFailover(fill, backup_as_primary) for fill in fills]
        if home_ring is not None:
            reads = [Failover(read, backup_as_primary) for read in self._check_stand_ins(servers, list(fills), home_ring)]
        writes: list[Route]
        if has_copies:
            writes = [self._replicate(server, read, copies, backup_as_primary) for server, read in zip(servers, reads)]
        else:
            writes = [WriteFailover(server, fill, backup_as_primary, copies, self.counters) for server, fill in zip(servers, fills)]
        writes = self._note_stand_ins(servers, writes, home_ring)
        if has_copies and self.fill_rules.must_verify():
            writes = [BackupFirst(write, server, copies, self.held) for write, server in zip(writes, servers)]
        awaited: list[Route] = [AwaitFills(server, write, self.held_writes, self._release) for server, write in zip(servers, writes)]
        filled_first: list[Route] = [FillBeforeWrite(write, fill, self.held, self._release) for write, fill in zip(awaited, fills)]
        entry = Shard(locator, servers, reads, filled_first, self.counters)
        return Routes(entry, Shard(locator, servers, reads, awaited, self.counters), own, fill_writes)

    def _replicate(self, server: Backend, primary_route: Route, copies: Shard, backup_as_primary: Shard) -> Replicate:
        waits_for_copy = self._options.backup_writes == "sync"
        several = self.fill_rules.must_verify()
        return Replicate(server, primary_route, copies, backup_as_primary, self.undecided, waits_for_copy, several, self.counters)

    @staticmethod
    def _check_stand_ins(servers: list[Backend], reads: list[Route], home_ring: HomeRing | None) -> list[Route]:
        """The routes `reads`, each behind a StandInReads while servers are ejected."""
        if home_ring is None:
            return reads
        return [StandInReads(server, read, home_ring) for server, read in zip(servers, reads)]

    @staticmethod
    def _note_stand_ins(servers: list[Backend], writes: list[Route], home_ring: HomeRing | None) -> list[Route]:
        """The routes `writes`, each behind a StandInWrites while servers are ejected."""
        if home_ring is None:
            return writes
        return [StandInWrites(server, write, home_ring) for server, write in zip(servers, writes)]

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

from gmproxy.backend.backend import Backend
from gmproxy.protocol.request import Route
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import Fill, FillOrFailover, FillWrites
from gmproxy.routing.lasting import Lasting, Routes
from gmproxy.routing.replica_routes import ReplicaRoutes
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.sets import Copies, ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.routing.sources import Sources
from gmproxy.routing.stand_in import HomeRing, StandInReads, StandInWrites
from gmproxy.shared.invalidation_marks import BACKUP


class Builder(Lasting):
    """For the Router of the pool."""

    def compose(self, main: ServerSet, copies: list[ServerSet], home_ring: HomeRing | None, gutter: ServerSet | None = None) -> Routes:
        """`main`: with the locator of the ring that holds now; `copies`: the backup, or the replicas that are enabled. `home_ring`: given while
        servers are ejected and others have their keys. Loop callback or greenlet."""
        servers = main.backends
        own_reads = self._check_stand_ins(servers, list(servers), home_ring)
        own = Shard(main.locator, servers, own_reads, self._note_stand_ins(servers, list(servers), home_ring), self.counters)
        if not copies and gutter is None and not self.options.replicas:
            return Routes(own, own, own, [])
        if not copies or copies[0].name != BACKUP or self.options.replicas:  # a replica may have that name, too
            return ReplicaRoutes(self, [main, *copies], gutter).compose(own)
        return self._compose_with_backup(main, copies[0], home_ring, own)

    def _compose_with_backup(self, main: ServerSet, backup: ServerSet, home_ring: HomeRing | None, own: Shard) -> Routes:
        servers, backups = main.backends, backup.backends
        copies = self.plain_shard(backup)
        has_copies = self.options.backup_writes != "off"
        substitutes: list[Route] = [BackupAsPrimary(server, not has_copies) for server in backups]
        backup_as_primary = Shard(backup.locator, backups, substitutes, substitutes, self.counters)
        sources = Sources([copies], 2)
        fills = [Fill(server, sources, FillWrites(server, home_ring), self.fill_rules) for server in servers]
        reads: list[Route] = [FillOrFailover(fill, backup_as_primary) for fill in fills]
        if home_ring is not None:
            reads = [Failover(read, backup_as_primary) for read in self._check_stand_ins(servers, list(fills), home_ring)]
        writes: list[Route]
        copied_to = Copies([backup])
        if has_copies:
            rules = ReplicaRules(waits_for_all=self.options.backup_writes == "sync", several_proxies=self.fill_rules.must_verify())
            writes = [
                Replicate(server, read, copied_to, backup_as_primary, self.undecided, rules, self.counters)
                for server, read in zip(servers, reads)
            ]
        else:
            writes = [WriteFailover(server, fill, backup_as_primary, copies, self.counters) for server, fill in zip(servers, fills)]
        writes = self._note_stand_ins(servers, writes, home_ring)
        if has_copies and self.fill_rules.must_verify():
            writes = [BackupFirst(write, server, copied_to, self.held) for write, server in zip(writes, servers)]
        return self.routes_of_clients(main, reads, writes, fills, own, fills)

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

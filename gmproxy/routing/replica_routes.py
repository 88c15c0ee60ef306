"""Composes the routes of a pool with replicas: sets of servers that each have a full copy of the data.

Each set has routes of its own, and those of the sets behind it as what follows if its server cannot reply.

    reads of a set     Shard -> BackupAsPrimary -> Fill -> the server; if that failed, the reads of the next set
                       (the main set: Shard -> FillOrFailover -> the server)
    writes of a set    Shard -> BackupAsPrimary -> FillBeforeWrite -> Replicate -> the server, and its copies in the sets behind it;
                       if this server cannot decide: the writes of the next set
                       (the main set: Shard -> FillBeforeWrite -> AwaitFills -> BackupFirst -> Replicate)
    near, spread       ChosenReads -> the reads of a set, then those of the others
    with a gutter      behind the last set, BackupAsPrimary -> the server of the gutter; writes: WriteFailover -> the writes of the main set

The first set whose server is up and may not have a stale value of the key *acts as the main set* for it.
"""

from gmproxy.backend.backend import Backend
from gmproxy.protocol.request import Route
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.chosen_reads import ChosenReads
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import Fill, FillBeforeWrite, FillOrFailover, FillWrites
from gmproxy.routing.lasting import Lasting, Routes
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.sets import Copies, ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.routing.sources import Sources


class ReplicaRoutes:
    """
    sets     the main set, then the replicas that are enabled
    gutter   the set that stands in for servers that are down, or None
    """

    def __init__(self, lasting: Lasting, sets: list[ServerSet], gutter: ServerSet | None) -> None:
        self.sets = sets
        self.gutter = gutter
        self._lasting = lasting
        self._marks = max(one.index for one in ([*sets, gutter] if gutter else sets)) + 1
        self._plain = {one.index: lasting.plain_shard(one) for one in sets}
        self._fills = {one.index: self._fills_of(one) for one in sets}

    def _fills_of(self, filled: ServerSet) -> list[Fill]:
        """A Fill for each server of the set, from all other sets."""
        sources = Sources([self._plain[one.index] for one in self.sets if one is not filled], self._marks)
        return [Fill(server, sources, FillWrites(server, None), self._lasting.fill_rules) for server in filled.backends]

    def compose(self, own: Shard) -> Routes:
        """`own`: see Routes."""
        lasting = self._lasting
        main = self.sets[0]
        reads = self._reads(self.sets)
        writes = self._writes(self.sets)
        stand_in = self._stand_in()
        if self.gutter is not None and stand_in is not None:
            plain = lasting.plain_shard(self.gutter)
            writes = [WriteFailover(server, write, stand_in, plain, lasting.counters) for server, write in zip(main.backends, writes)]
        routes = lasting.routes_of_clients(main, reads, writes, self._fills[main.index], own, sum(self._fills.values(), []))
        read = lasting.options.read
        if read == "first":
            return routes
        orders = [self._near()] if read == "near" else [[one, *(other for other in self.sets if other is not one)] for one in self.sets]
        chains = [self._shard(order[0], self._reads(order)) for order in orders]
        chosen = ChosenReads(routes.entry, [order[0] for order in orders], chains)
        return Routes(chosen, routes.after_fill, routes.own, routes.fills)

    def _near(self) -> list[ServerSet]:
        """The sets, those in the zone of the proxy first."""
        zone = self._lasting.options.zone
        return sorted(self.sets, key=lambda one: one.zone != zone)

    def _shard(self, one: ServerSet, routes: list[Route]) -> Shard:
        return Shard(one.locator, one.backends, routes, routes, self._lasting.counters)

    # -- reads

    def _reads(self, order: list[ServerSet]) -> list[Route]:
        """For each server of the first set of `order`: the route of reads to it, and to the other sets of `order` if it cannot reply."""
        first, *others = order
        following = self._shard(others[0], self._reads(others)) if others else self._stand_in()
        return [self._read(server, fill, following) for server, fill in zip(first.backends, self._fills[first.index])]

    def _read(self, server: Backend, fill: Fill, following: Route | None) -> Route:
        if not server.set_index and following is not None:
            return FillOrFailover(fill, following)
        route = BackupAsPrimary(server, False, fill, self._marks) if server.set_index else fill
        return route if following is None else Failover(route, following)

    # -- writes

    def _writes(self, sets: list[ServerSet]) -> list[Route]:
        """For each server of the first of `sets`, which are the last ones: the route of writes to it and to the others."""
        first, *others = sets
        fills = self._fills[first.index]
        if not others and first.index:
            return [self._in_place_of_main(server, fill, server) for server, fill in zip(first.backends, fills)]
        if not others:
            return [self._noted(server) for server in first.backends]
        following = self._shard(others[0], self._writes(others))
        copies = Copies(others)
        reads = self._reads(sets)
        routes = []
        for server, fill, read in zip(first.backends, fills, reads):
            write: Route = Replicate(server, read, copies, following, self._lasting.undecided, self._rules(), self._lasting.counters)
            if first.index:
                write = self._in_place_of_main(server, fill, write)
            elif self._lasting.fill_rules.must_verify():
                write = BackupFirst(write, server, copies, self._lasting.held)
            routes.append(write)
        return routes

    def _noted(self, server: Backend) -> Route:
        """The only set that is enabled. While replicas are switched off, another worker may still fill the server from one of them: so it must know
        which keys change."""
        lasting = self._lasting
        return Replicate(server, server, Copies([]), server, lasting.undecided, self._rules(), lasting.counters)

    def _in_place_of_main(self, server: Backend, fill: Fill, write: Route) -> Route:
        """`write` of a set that is not the main one. A write that was held until its key was filled goes on with it: the sets are the same then."""
        filled_first = FillBeforeWrite(write, fill, self._lasting.held, write.send)
        return BackupAsPrimary(server, False, filled_first, self._marks)

    def _stand_in(self) -> Shard | None:
        """The route to the gutter."""
        if self.gutter is None:
            return None
        life = self._lasting.options.failover_ttl
        return self._shard(self.gutter, [BackupAsPrimary(server, True, server, self._marks, life) for server in self.gutter.backends])

    def _rules(self) -> ReplicaRules:
        sets = len(self.sets)
        acks = {"main": 1, "majority": sets // 2 + 1, "all": sets}[self._lasting.options.write]
        return ReplicaRules(acks=acks, several_proxies=self._lasting.fill_rules.must_verify(), repeats=False, deletes_marked=True)

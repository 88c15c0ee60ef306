"""What outlives the routes of a pool, whatever they are (builder.py)."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.fill import Fill, FillBeforeWrite
from gmproxy.routing.fill_rules import FillRules
from gmproxy.routing.held_writes import AwaitFills, HeldWrites
from gmproxy.routing.replicated_write import UndecidedWrites
from gmproxy.routing.sets import ServerSet
from gmproxy.routing.shard import Shard


class Routes(NamedTuple):
    """
    entry        for the requests of clients
    after_fill   for their writes that were held by FillBeforeWrite until their key was filled
    own          for the requests of another gmproxy that has these servers as backups: neither copied nor looked up on our backups
    fills        the Fill of each server that is filled
    """

    entry: Route
    after_fill: Shard
    own: Shard
    fills: list[Fill]


class Lasting:
    """For the builders, which compose routes with it.

    counters    RouteCounters
    undecided   UndecidedWrites
    held        writes that are held until their key was filled, or the backup has deleted it
    held_writes those of them that wait for the fills of other workers (HeldWrites)
    fill_rules  FillRules
    options     of the pool
    release     sends one of `held` by the routes that the pool has then
    """

    def __init__(self, options: Any, release: Callable[[Request], ReplySink | None]) -> None:
        self.counters = RouteCounters()
        self.undecided = UndecidedWrites()
        self.held: set[Request] = set()
        self.held_writes = HeldWrites(self.held, options)
        self.fill_rules = FillRules(options)
        self.options = options
        self.release = release

    def plain_shard(self, one: ServerSet) -> Shard:
        """The Shard whose routes are the servers of the set themselves."""
        return Shard(one.locator, one.backends, list(one.backends), list(one.backends), self.counters)

    def routes_of_clients(
        self, main: ServerSet, reads: list[Route], writes: list[Route], fills: list[Fill], own: Shard, all_fills: list[Fill]
    ) -> Routes:
        """The Routes with `reads`, and with `writes` behind what holds them. `fills`: of the main set; `all_fills`: of all sets."""
        servers = main.backends
        awaited: list[Route] = [AwaitFills(server, write, self.held_writes, self.release) for server, write in zip(servers, writes)]
        filled_first: list[Route] = [FillBeforeWrite(write, fill, self.held, self.release) for write, fill in zip(awaited, fills)]
        entry = Shard(main.locator, servers, reads, filled_first, self.counters)
        return Routes(entry, Shard(main.locator, servers, reads, awaited, self.counters), own, all_fills)

"""Each key has its server. A request for several keys becomes one for each server that has some of them, asked at the same time; their answers
are joined to one (gather.py)."""

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import ReplySink, Request, Route, new_request
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.gather import GATHERER

#: Maximum bytes of keys in one line of a gat.
LONGEST_GAT = 1900


def some_may_be_old(servers: list[Backend]) -> bool:
    """True if one of them may have missed a change."""
    for backend in servers:
        if backend.has_old():
            return True
    return False


class Shard(Route):
    """
    locator           key -> index into the lists
    servers           of the keys (Backend)
    reads, changes    the routes to each of them, for requests that only read, and for those that change something
    """

    __slots__ = ("locator", "servers", "reads", "changes", "_counters")

    def __init__(self, locator: Locator, servers: list[Backend], reads: list[Route], changes: list[Route], counters: RouteCounters) -> None:
        self.locator = locator
        self.servers = servers
        self.reads = reads
        self.changes = changes
        self._counters = counters

    def server_of(self, key: bytes) -> Backend:
        return self.servers[self.locator.locate(key)]

    def send(self, request: Request) -> ReplySink | None:
        if request.keys is not None:
            return self._split(request)
        routes = self.changes if request.command.is_write else self.reads
        route = routes[self.locator.locate(request.key)]
        return route.send(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        routes = self.changes if is_change else self.reads
        return routes[self.locator.locate(key)].explain(key, is_change)

    def _split(self, request: Request) -> ReplySink | None:
        """The line of `request` ends before the first key."""
        is_change = request.command.is_write
        if is_change or some_may_be_old(self.servers):
            division = self._divide_with_care(request)
        else:
            keys = request.keys
            division = keys.partition(self.locator, len(self.servers))
        self._counters.fragments += len(division.owners)
        gather = GATHERER.gather(request, division)
        for keys in division.parts:
            part = new_request(request.command, request.key, keys.command_line(request.line))
            part.keys = keys
            part.sink = gather
            part.connection_index = request.connection_index
            part.role = request.role
            gather.parts.append(part)
        session = None
        routes = self.changes if is_change else self.reads
        parts = gather.parts  # the gather drops them once it has all answers, perhaps before we are done
        for number in range(len(parts)):
            route = routes[division.owners[number]]
            session = route.send(parts[number]) or session
        return session

    def _divide_with_care(self, request: Request) -> KeyPartition:
        """The keys that a server will refuse, since it has missed a change of them, go apart. And memcached gives up a long
        line that is no get."""
        changes = request.command.is_write
        groups = {}  # (server, whether it will refuse) -> the group that its next key joins
        owners = []
        order = []
        room = 0
        for key in request.keys:
            index = self.locator.locate(key)
            backend = self.servers[index]
            place = index, backend.may_be_old(key, changes)
            room += len(key) + 1
            if room > LONGEST_GAT and changes:
                room = len(key) + 1
                groups = {}
            if place not in groups:
                groups[place] = len(owners)
                owners.append(index)
            order.append(groups[place])
        return KeyPartition(request.keys, order, owners)

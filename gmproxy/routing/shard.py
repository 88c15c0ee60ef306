"""Sends a request to the server of its key. A request for several keys becomes one request for each server that has some of them, all sent at
once; their replies are joined (gather.py)."""

from gmproxy.backend.backend import Backend
from gmproxy.placement.locators import Locator
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import ReplySink, Request, Route, new_request
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.gather import GATHERER

#: Bytes of keys in one line of a gat at most: memcached rejects a longer line that is not a get.
MAX_GAT_KEYS = 1900


def some_may_have_stale_keys(servers: list[Backend]) -> bool:
    """True if one of the servers may have missed a write."""
    for backend in servers:
        if backend.may_have_stale_keys():
            return True
    return False


class Shard(Route):
    """
    locator   key -> index into the lists
    servers   the Backends
    reads     the route to each of them for requests that only read
    writes    the route to each of them for requests that write, gat and touch included
    """

    __slots__ = ("locator", "servers", "reads", "writes", "_counters")

    def __init__(self, locator: Locator, servers: list[Backend], reads: list[Route], writes: list[Route], counters: RouteCounters) -> None:
        self.locator = locator
        self.servers = servers
        self.reads = reads
        self.writes = writes
        self._counters = counters

    def server_of(self, key: bytes) -> Backend:
        """Loop callback or greenlet."""
        return self.servers[self.locator.locate(key)]

    def send(self, request: Request) -> ReplySink | None:
        if request.keys is not None:
            return self._split(request)
        routes = self.writes if request.command.is_write else self.reads
        route = routes[self.locator.locate(request.key)]
        return route.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        routes = self.writes if is_write else self.reads
        return routes[self.locator.locate(key)].explain(key, is_write)

    def _split(self, request: Request) -> ReplySink | None:
        """`request` is for several keys; its line ends before the first of them."""
        is_write = request.command.is_write
        if is_write or some_may_have_stale_keys(self.servers):
            partition = self._partition_by_staleness(request)
        else:
            keys = request.keys
            partition = keys.partition(self.locator, len(self.servers))
        self._counters.fragments += len(partition.owners)
        gather = GATHERER.gather(request, partition)
        for keys in partition.parts:
            part = new_request(request.command, request.key, keys.command_line(request.line))
            part.keys = keys
            part.sink = gather
            part.connection_index = request.connection_index
            part.role = request.role
            gather.parts.append(part)
        session = None
        routes = self.writes if is_write else self.reads
        parts = gather.parts  # the gather drops its list with the last reply, perhaps before this loop ends
        for number in range(len(parts)):
            route = routes[partition.owners[number]]
            session = route.send(parts[number]) or session
        return session

    def _partition_by_staleness(self, request: Request) -> KeyPartition:
        """Keys that may be stale on their server go into a request of their own: the server will not be sent that, and the other keys are not to
        fail with it. A gat is split further where its line would be longer than memcached accepts."""
        is_write = request.command.is_write
        groups = {}  # (index of the server, may be stale) -> index of the group that the next such key joins
        owners = []  # index of the server of each group
        order = []  # index of the group of each key
        size = 0
        for key in request.keys:
            index = self.locator.locate(key)
            backend = self.servers[index]
            kind = index, backend.may_be_stale(key)
            size += len(key) + 1
            if size > MAX_GAT_KEYS and is_write:
                size = len(key) + 1
                groups = {}
            if kind not in groups:
                groups[kind] = len(owners)
                owners.append(index)
            order.append(groups[kind])
        return KeyPartition(request.keys, order, owners)


def line_before_keys(part: Request) -> bytes:
    """The line of `part`, a request for several keys that was split, up to its first key: with it, the request can be split again."""
    words = 2 if part.command.is_write else 1  # gat EXPTIME
    return b" ".join(part.line.split(b" ", words)[:words]) + b" "

"""Chooses the set that a read is sent to, where that need not be the main one: the nearest, or each in turn.

That holds for get and for mg without the flags N, R, T and c: a client that asks for a cas number, wins the right to renew an item, or touches it,
must be answered by the set that acts as the main one.
"""

from gmproxy.backend.backend import Backend
from gmproxy.protocol.commands import COMMANDS, META_GET
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.sets import ServerSet
from gmproxy.routing.shard import Shard

GET = COMMANDS[b"get"]


class ChosenReads(Route):
    """
    main     the route of all other requests
    sets     the ServerSets to choose from
    chains   for each of them the Shard of reads that asks it first
    """

    __slots__ = ("main", "sets", "chains", "_turn")

    def __init__(self, main: Route, sets: list[ServerSet], chains: list[Shard]) -> None:
        self.main = main
        self.sets = sets
        self.chains = chains
        self._turn = 0

    def send(self, request: Request) -> ReplySink | None:
        command = request.command
        if command is not GET and (command is not META_GET or b" c" in request.line):
            return self.main.send(request)
        chains = self.chains
        count = len(chains)
        for _ in range(count):
            self._turn = self._turn + 1 if self._turn + 1 < count else 0
            shard: Shard = chains[self._turn]
            if count == 1 or self._can_answer(shard, request):
                return shard.send(request)
        return self.main.send(request)

    def _can_answer(self, shard: Shard, request: Request) -> bool:
        """True if the servers of the keys in this set are up and not warming."""
        if request.keys is None:
            return _is_up(shard.server_of(request.key))
        for server in shard.servers:
            if not _is_up(server):
                return False
        return True

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        if is_write:
            return self.main.explain(key, is_write)
        if len(self.chains) == 1:
            return self.chains[0].explain(key, is_write)
        label = self.sets[0].server_of(key).label
        return [Hop("spread", label, "or that of another set: a get is sent to each set in turn"), *self.main.explain(key, is_write)]


def _is_up(server: Backend) -> bool:
    return not server.ask_backup_on_miss and not server.health.ejected

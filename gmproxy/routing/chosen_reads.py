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
from gmproxy.shared.changes import ChangeNotes

GET = COMMANDS[b"get"]

#: A set that is warming while the main set is not receives one of this many of its turns: its misses are looked up in the others, and fill it.
TURNS_OF_WARMING = 16
_TURNS_OF_WARMING = TURNS_OF_WARMING  # in C


class ChosenReads(Route):
    """What a worker changes at the moment is read on the main set, which has each change first.

    main     the route of all other requests
    sets     the ServerSets to choose from
    chains   for each of them the Shard of reads that asks it first
    """

    __slots__ = ("main", "sets", "chains", "_notes", "_turns")

    def __init__(self, main: Route, sets: list[ServerSet], chains: list[Shard]) -> None:
        self.main = main
        self.sets = sets
        self.chains = chains
        self._notes: ChangeNotes = sets[0].backends[0].notes
        self._turns = 0

    def send(self, request: Request) -> ReplySink | None:
        command = request.command
        if command is not GET and (command is not META_GET or b" c" in request.line) or self._is_changing(request):
            return self.main.send(request)
        chains = self.chains
        count = len(chains)
        if count == 1:
            shard: Shard = chains[0]
            return shard.send(request)
        may_be_warming = self._turns // count % _TURNS_OF_WARMING == 0 or not self._can_answer(chains[0], request, False)
        for _ in range(count):
            self._turns += 1
            shard = chains[self._turns % count]
            if self._can_answer(shard, request, may_be_warming):
                return shard.send(request)
        return self.main.send(request)

    def _is_changing(self, request: Request) -> bool:
        """True if one of the keys of `request` is being changed."""
        notes = self._notes
        if request.keys is None:
            return notes.is_changing(request.key)
        for key in request.keys:
            if notes.is_changing(key):
                return True
        return False

    def _can_answer(self, shard: Shard, request: Request, may_be_warming: bool) -> bool:
        """True if the servers of the keys in this set are up and, unless `may_be_warming`, not warming."""
        if request.keys is None:
            return _can_serve(shard.server_of(request.key), may_be_warming)
        for server in shard.servers:
            if not _can_serve(server, may_be_warming):
                return False
        return True

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        if is_write:
            return self.main.explain(key, is_write)
        if len(self.chains) == 1:
            return self.chains[0].explain(key, is_write)
        label = self.sets[0].server_of(key).label
        return [Hop("spread", label, "or that of another set: a get is sent to each set in turn"), *self.main.explain(key, is_write)]


def _can_serve(server: Backend, may_be_warming: bool) -> bool:
    return (may_be_warming or not server.ask_backup_on_miss) and not server.health.ejected

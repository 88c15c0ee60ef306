"""A primary and its backup behind a Replicate route, without a network, and another worker that changes the same keys."""

from gmproxy.placement.locators import SingleServer
from gmproxy.protocol.request import PRIMARY as TO_PRIMARY
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.failover import BackupAsPrimary, Failover
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.replicated_write import UndecidedWrites
from gmproxy.routing.sets import MAIN, Copies, ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.routing.sources import Sources
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import BACKUP, PRIMARY, server_name
from gmproxy.shared.keys_in_flight import keys_left
from gmproxy.shared.memory import SharedMemory
from support.requests import request_for
from support.routes import Client, KeepingServer

POOL = "shop"

SET = b"set k 1 2 1\r\nx\r\n"
INCR = b"incr k 1\r\n"
STORED = b"STORED\r\n"
DELETE = b"delete k\r\n"


def main_set(servers, locator=None):
    return ServerSet(0, MAIN, "", servers, locator or SingleServer(0))


def backup_set(servers, locator=None):
    return ServerSet(1, BACKUP, "", servers, locator or SingleServer(0))


def sources_of(backup):
    """The Sources in a pool whose only backup is `backup`."""
    return Sources([Shard(SingleServer(0), [backup], [backup], [backup], RouteCounters())], 2)


class Play:
    """With backup_writes sync or not: a client, its primary and its backup, and the Replicate route between them.

    other        the ChangeNotes of another worker
    other_marks  its pending invalidations of the primary
    copies       the class of the Copies
    """

    def __init__(self, sync=False, backup_port=2, copies=Copies, several_proxies=False):
        self.memory = SharedMemory.create()
        self._column = SharedColumn(self.memory)
        other = SharedColumn(self.memory)
        self.other, self.other_marks = other.notes, other.marks_of(server_name(POOL, PRIMARY, "127.0.0.1:1"))
        self.primary = KeepingServer(1)
        self.backup = KeepingServer(backup_port, set_index=1)
        self.primary.share(self._column, POOL, PRIMARY)
        self.backup.share(self._column, POOL, BACKUP)
        self.client = Client()
        self.counters = RouteCounters()
        self.undecided = UndecidedWrites()
        locator, acting = SingleServer(0), [BackupAsPrimary(self.backup, False)]
        backup_as_primary = Shard(locator, [self.backup], acting, acting, self.counters)
        main = Failover(self.primary, backup_as_primary)
        rules = ReplicaRules(waits_for_all=sync, several_proxies=several_proxies)
        copied_to = copies([backup_set([self.backup])])
        self.route = Replicate(self.primary, main, copied_to, backup_as_primary, self.undecided, rules, self.counters)

    def ask(self, line, keys=None):
        request = request_for(line, keys)
        request.sink = self.client
        self.route.send(request)
        return request

    def answer(self, request, reply):
        return self.server_of(request).answer(request, reply)

    def fail(self, request, reason="timeout"):
        return self.server_of(request).fail(request, reason)

    def server_of(self, request):
        return self.primary if request.role == TO_PRIMARY else self.backup

    def in_flight(self):
        """The keys of the changes of this worker that have not ended."""
        return sorted(key for _, key in keys_left(self.memory.keys_of(self._column.number)))

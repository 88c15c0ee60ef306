"""Sends a copy of every write to the backup, so that what the backup replies for a failed primary is neither missing nor stale.

A backup receives the same commands in the same order as the primaries: a pool with backups has one connection to each server, so the writes of
all clients of this worker have one order. Where two workers change a key at the same time, it is deleted on the backup (change.py). Two servers
that receive the same commands in the same order send the same replies. Where a backup replies differently (it had lost the key, or still had one
that the primary had not), the key is deleted there.

add, replace and cas could have another result on the backup. Their value goes there once the primary has stored it. If another write of the key
was sent to the backup meanwhile, the order of the two on the primary is unknown, and the key is deleted on the backup instead.

The client gets the primary's reply, with backup_writes = async at once, with sync when the backup has replied too. If the primary fails, the
client gets the reply to the copy.
"""

from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import replica_commands
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.change import UNNOTED, AnswerOfBackup, Change, PartOfChanges
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.replicated_write import ConditionalWrite, ReplicatedWrite, UndecidedWrites, WriteWithoutCopy
from gmproxy.routing.shard import Shard
from gmproxy.shared.changes import BACKUP_WORD, PRIMARY_WORD


class Replicate(Route):
    """For writes.

    server             the primary
    primary_route      the route to it for what is not copied as it is: gat and mg with touch, and a key whose primary is its backup
    backups            the Shard of the backups
    backup_as_primary  the Shard of the backups in place of a failed primary
    undecided          the pool's UndecidedWrites
    waits_for_copy     True if the client waits for the backup's reply too (backup_writes = sync)
    several_proxies    True if other proxies may fill the primary (the setting proxies)
    counters           the pool's RouteCounters
    """

    __slots__ = (
        "server",
        "primary_route",
        "backups",
        "backup_as_primary",
        "undecided",
        "waits_for_copy",
        "several_proxies",
        "counters",
        "_overlaps",
    )

    def __init__(
        self,
        server: Backend,
        primary_route: Route,
        backups: Shard,
        backup_as_primary: Route,
        undecided: UndecidedWrites,
        waits_for_copy: bool,
        several_proxies: bool,
        counters: RouteCounters,
    ) -> None:
        self.server = server
        self.primary_route = primary_route
        self.backups = backups
        self.backup_as_primary = backup_as_primary
        self.undecided = undecided
        self.waits_for_copy = waits_for_copy
        self.several_proxies = several_proxies
        self.counters = counters
        self._overlaps = any(backup.label == server.label for backup in backups.servers)

    def send(self, request: Request) -> ReplySink | None:
        if request.command.is_read:
            return self._send_touch(request)
        backup = self.backups.server_of(request.key)
        if self._is_primary(backup):
            return self.primary_route.send(request)
        server = self.server
        by_backup = server.health.ejected or (request.command.reads_old_value and server.others_may_delete(request.key))
        change = self._begin_write(backup, request.key, self._word_of(request, by_backup))
        try:
            if by_backup and request.command.reads_old_value:
                return self._send_to_backup(request, change)
            return self._send_to_both(request, change)
        except Exception:
            if not change.parts:
                change.end()
            raise

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        *before, copy = self.backups.explain(key, is_write)
        if self._is_primary(self.backups.server_of(key)):
            return self.primary_route.explain(key, is_write)
        waits = "waits" if self.waits_for_copy else "does not wait"
        hop = Hop("replicate", copy.server, f"receives a copy; the client {waits} for it ({copy.reason})")
        return [*self.server.explain(key, is_write), *before, hop]

    def _word_of(self, request: Request, by_backup: bool) -> int:
        """The word for Change.begin. `by_backup`: the backup makes the change, in the place of the primary."""
        if request.command.only_touches and not replica_commands.is_delete_like(request):
            return UNNOTED
        return BACKUP_WORD if by_backup else PRIMARY_WORD

    def _begin_change(self, backup: Backend, key: bytes, word: int) -> Change:
        change = Change.__new__(Change)
        change.begin(self.server, backup, key, word, self.counters)
        return change

    def _begin_write(self, backup: Backend, key: bytes, word: int) -> ReplicatedWrite:
        change = ReplicatedWrite.__new__(ReplicatedWrite)
        change.begin(self.server, backup, key, word, self.counters)
        return change

    def _send_to_both(self, request: Request, change: ReplicatedWrite) -> ReplySink | None:
        if request.command.conditional:
            PartOfChanges.__new__(PartOfChanges).begin(request, [change])
            write = ConditionalWrite.__new__(ConditionalWrite)
            write.begin(request, change, self.undecided, self.backup_as_primary, self.waits_for_copy)
            return self.server.send(request)
        self.undecided.supersede(request.key)
        if self.several_proxies and request.command.reads_old_value and self.server.ask_backup_on_miss:
            PartOfChanges.__new__(PartOfChanges).begin(request, [change])
            WriteWithoutCopy.__new__(WriteWithoutCopy).begin(request, change, self.backup_as_primary)
            return self.server.send(request)
        change.wait_for(request, self.waits_for_copy, False)
        session = change.replicate(request.command, request.line)
        return self.server.send(request) or session

    def _send_to_backup(self, request: Request, change: Change) -> ReplySink | None:
        """The result of `request` depends on a value that the primary has not, or that another worker is about to delete there."""
        server = self.server
        if server.notes.are_under_way(request.key):  # whether the backup has the other worker's change already is unknown
            change.end()
            return request.fail(EJECTED, server.label)
        self.undecided.supersede(request.key)
        PartOfChanges.__new__(PartOfChanges).begin(request, [change])
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, change)
        change.delete_on_primary()
        return self.backup_as_primary.send(request)

    def _send_touch(self, request: Request) -> ReplySink | None:
        """A gat changes only the life of the item: the copy is a touch, so that the backup does not send the value."""
        changes: list[Change] = []
        word = self._word_of(request, self.server.health.ejected)
        try:
            for key in request.all_keys():
                backup = self.backups.server_of(key)
                if not self._is_primary(backup):
                    changes.append(self._begin_change(backup, key, word))
            if changes:
                PartOfChanges.__new__(PartOfChanges).begin(request, changes)
        except Exception:
            for change in changes:
                change.end()
            raise
        for change in changes:
            self.undecided.supersede(change.key)
            command, _, line = replica_commands.touch_command(request, change.key)
            change.send_copy(command, line)
        return self.primary_route.send(request)

    def _is_primary(self, backup: Backend) -> bool:
        """True if the primary is also the backup of the key, as for some keys where the two lists overlap: a copy would be made twice there."""
        return self._overlaps and backup.label == self.server.label

"""Sends a copy of every write to the backup, so that what the backup replies for a failed primary is neither missing nor stale; with replicas, to one
server in each set.

These servers receive the same commands in the same order as the primaries: a pool with copies has one connection to each server, so the writes of
all clients of this worker have one order. Where two workers change a key at the same time, it is deleted on the copies (change.py). Two servers
that receive the same commands in the same order send the same replies. Where a copy replies differently (it had lost the key, or still had one
that the primary had not), the key is deleted there.

add, replace and cas could have another result on a copy. Their value goes there once the primary has stored it. If another write of the key
was sent to the copies meanwhile, the order of the two on the primary is unknown, and the key is deleted on the copies instead.

The client gets the primary's reply as soon as enough servers have made the write (ReplicaRules). If the primary fails, the client gets the reply of
the first copy that has not failed.
"""

from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import replica_commands
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request, Route
from gmproxy.routing.change import UNNOTED, AnswerOfActing, AnswerOfBackup, Change, PartOfChanges
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicated_write import ConditionalWrite, ReplicatedWrite, UndecidedWrites, WriteWithoutCopy
from gmproxy.routing.sets import Copies
from gmproxy.shared.changes import BACKUP_WORD, COPIES_WORD, PRIMARY_WORD


class Replicate(Route):
    """For writes.

    server          the primary; with replicas, it may be the server of another set, in the place of those before it
    primary_route   the route to it for what is not copied as it is: gat and mg with touch, and a key whose primary is its backup
    copies          the Copies
    next_route      where a write is sent that the primary cannot decide: to the first copy
    next_copies     True if that route sends copies to further servers
    undecided       the pool's UndecidedWrites
    rules           the ReplicaRules
    counters        the pool's RouteCounters
    """

    __slots__ = ("server", "primary_route", "copies", "next_route", "next_copies", "undecided", "rules", "counters", "_overlaps", "_acks",
                 "_waits_for_all", "_deletes_marked")  # fmt: skip

    def __init__(
        self,
        server: Backend,
        primary_route: Route,
        copies: Copies,
        next_route: Route,
        undecided: UndecidedWrites,
        rules: ReplicaRules,
        counters: RouteCounters,
    ) -> None:
        self.server = server
        self.primary_route = primary_route
        self.copies = copies
        self.next_route = next_route
        self.next_copies = len(copies.sets) > 1
        self.undecided = undecided
        self.rules = rules
        self.counters = counters
        self._overlaps = any(backend.label == server.label for one in copies.sets for backend in one.backends)
        self._acks = rules.acks
        self._waits_for_all = rules.waits_for_all
        self._deletes_marked = rules.deletes_marked

    def send(self, request: Request) -> ReplySink | None:
        if request.command.is_read:
            return self._send_touch(request)
        copies = self.copies.of(request.key)
        if self._is_primary(copies):
            return self.primary_route.send(request)
        server = self.server
        marks = self._deletes_marked and self._marks_as_stale(request)
        needs_one = marks or request.command.reads_old_value
        by_copy = server.health.ejected or (needs_one and server.others_may_delete(request.key))
        if by_copy and needs_one and self.next_copies:
            server.missed_key(request.key)
            request.error = EJECTED  # the error for the client if no other server can make the write
            request.failed_server = server.label
            return self.next_route.send(request)
        change = self._begin_write(copies, request.key, self._word_of(request, by_copy))
        try:
            if by_copy and needs_one:
                return self._send_to_copy(request, change)
            return self._send_to_all(request, change, marks)
        except Exception:
            if not change.parts:
                change.end()
            raise

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        copies = self.copies.of(key)
        if self._is_primary(copies):
            return self.primary_route.explain(key, is_write)
        hops = self.server.explain(key, is_write)
        waits = "waits" if self._waits_for_all or self._acks > 1 else "does not wait"
        for copy in copies:
            *before, last = copy.explain(key, is_write)
            hops += [*before, Hop("replicate", last.server, f"receives a copy; the client {waits} for it ({last.reason})")]
        return hops

    def _word_of(self, request: Request, by_copy: bool) -> int:
        """The word for Change.begin. `by_copy`: a copy makes the change, in the place of the primary."""
        if request.command.only_touches and not replica_commands.is_delete_like(request):
            return UNNOTED
        if by_copy:
            return COPIES_WORD if self.next_copies else BACKUP_WORD
        return COPIES_WORD if self.server.is_backup else PRIMARY_WORD

    def _begin_change(self, copies: list[Backend], key: bytes, word: int) -> Change:
        change = Change.__new__(Change)
        change.begin(self.server, copies, key, word, self.counters)
        return change

    def _begin_write(self, copies: list[Backend], key: bytes, word: int) -> ReplicatedWrite:
        change = ReplicatedWrite.__new__(ReplicatedWrite)
        change.begin(self.server, copies, key, word, self.counters)
        return change

    def _send_to_all(self, request: Request, change: ReplicatedWrite, marks: bool) -> ReplySink | None:
        """`marks`: the write marks the item as stale: the copies delete it when the primary has replied."""
        if marks or request.command.conditional:
            PartOfChanges.__new__(PartOfChanges).begin(request, [change])
            self._watch_main_set(request, change)
            write = ConditionalWrite.__new__(ConditionalWrite)
            write.begin(request, change, self.undecided, self.next_route, self.rules, marks)
            return self.server.send(request)
        self.undecided.supersede(request.key)
        if self.rules.several_proxies and request.command.reads_old_value and self.server.ask_backup_on_miss:
            PartOfChanges.__new__(PartOfChanges).begin(request, [change])
            self._watch_main_set(request, change)
            WriteWithoutCopy.__new__(WriteWithoutCopy).begin(request, change, self.next_route, self._one_is_enough())
            return self.server.send(request)
        if request.command.reads_old_value:
            self._watch_main_set(request, change)
        change.wait_for(request, self._acks, self._waits_for_all, False)
        session = change.replicate(request.command, request.line)
        return self.server.send(request) or session

    def _watch_main_set(self, request: Request, change: ReplicatedWrite) -> None:
        """The result of `request` depends on the stored value: a replica may only give it while the main set has no change of the key."""
        if self.server.is_backup:
            AnswerOfActing.__new__(AnswerOfActing).begin(request, change, True)

    def _send_to_copy(self, request: Request, change: Change) -> ReplySink | None:
        """The result of `request` depends on a value that the primary has not, or that another worker is about to delete there."""
        server = self.server
        if server.notes.are_under_way(request.key):  # whether the copy has the other worker's change already is unknown
            change.end()
            return request.fail(EJECTED, server.label)
        self.undecided.supersede(request.key)
        PartOfChanges.__new__(PartOfChanges).begin(request, [change])
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, change, self._one_is_enough())
        change.delete_on_primary()
        return self.next_route.send(request)

    def _send_touch(self, request: Request) -> ReplySink | None:
        """A gat changes only the life of the item: the copies are touches, so that no copy sends the value."""
        changes: list[Change] = []
        word = self._word_of(request, self.server.health.ejected)
        try:
            for key in request.all_keys():
                copies = self.copies.of(key)
                if not self._is_primary(copies):
                    changes.append(self._begin_change(copies, key, word))
            if changes:
                PartOfChanges.__new__(PartOfChanges).begin(request, changes)
        except Exception:
            for change in changes:
                change.end()
            raise
        for change in changes:
            self.undecided.supersede(change.key)
            command, _, line = replica_commands.touch_command(request, change.key)
            change.send_copies(command, line)
        return self.primary_route.send(request)

    @staticmethod
    def _marks_as_stale(request: Request) -> bool:
        return request.command.is_meta and replica_commands.marks_as_stale(request)

    def _one_is_enough(self) -> bool:
        """True if the client receives the reply of the next route, which is that of one server unless it sends copies and counts them itself."""
        return self._acks == 1 or self.next_copies

    def _is_primary(self, copies: list[Backend]) -> bool:
        """True if the primary is also the backup of the key, as for some keys where the two lists overlap: a copy would be made twice there."""
        return self._overlaps and copies[0].label == self.server.label

"""Sends a copy of every write to the backup, so that what the backup replies for a failed primary is neither missing nor stale.

A backup receives the same commands in the same order as the primaries: a pool with backups has one connection to each server, so the writes of
all clients of this worker have one order. The writes of several workers have none: a primary and its backup may receive those of two workers in
different orders (docs/failures.md, "What can still go wrong"). Two servers that receive the same commands in the same order send the same replies.
Where a backup replies differently (it had lost the key, or still had one that the primary had not), the key is deleted there.

add, replace and cas could have another result on the backup. Their value goes there once the primary has stored it. If another write of the key
was sent to the backup meanwhile, the order of the two on the primary is unknown, and the key is deleted on the backup instead.

The client gets the primary's reply, with backup_writes = async at once, with sync when the backup has replied too. If the primary fails, the
client gets the reply to the copy.
"""

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.protocol import internal_commands, replica_commands
from gmproxy.protocol.cas_numbers import BACKUP_SET
from gmproxy.protocol.cas_numbers import mark as mark_cas_number
from gmproxy.protocol.commands import Command
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import COPY, INTERNAL_ERROR, ReplySink, Request, Route, new_request
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.shard import Shard
from gmproxy.routing.step import Step

#: The state of a write on one of the two servers.
WAITING, REPLIED, FAILED = range(3)


class UndecidedWrites:
    """The conditional writes of a pool to which the primary has not replied: {key: ConditionalWrites}. Outlives the routes. Methods: loop callback
    or greenlet."""

    __slots__ = ("by_key",)

    def __init__(self) -> None:
        self.by_key: dict[bytes, list[ConditionalWrite]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def supersede(self, key: bytes) -> None:
        """Another write of `key` is sent to the backup."""
        for write in self.by_key.get(key, ()):
            write.superseded = True

    def supersede_all(self) -> None:
        """A flush_all is sent to the backups."""
        for key in self.by_key:
            self.supersede(key)

    def add_write(self, write: "ConditionalWrite", key: bytes) -> None:
        self.by_key.setdefault(key, []).append(write)

    def remove_write(self, write: "ConditionalWrite", key: bytes) -> None:
        """Does nothing if it is no longer there."""
        writes = self.by_key.get(key, [])
        if write in writes:
            writes.remove(write)
            if not writes:
                del self.by_key[key]


class Replicate(Route):
    """For writes.

    server             the primary
    primary_route      the route to it for what is not copied as it is: gat and mg with touch, and a key whose primary is its backup
    backups            the Shard of the backups
    backup_as_primary  the Shard of the backups in place of a failed primary
    undecided          the pool's UndecidedWrites
    waits_for_copy     True if the client waits for the backup's reply too (backup_writes = sync)
    counters           the pool's RouteCounters
    """

    __slots__ = ("server", "primary_route", "backups", "backup_as_primary", "undecided", "waits_for_copy", "counters", "_unawaited")

    def __init__(
        self,
        server: Backend,
        primary_route: Route,
        backups: Shard,
        backup_as_primary: Route,
        undecided: UndecidedWrites,
        waits_for_copy: bool,
        counters: RouteCounters,
    ) -> None:
        self.server = server
        self.primary_route = primary_route
        self.backups = backups
        self.backup_as_primary = backup_as_primary
        self.undecided = undecided
        self.waits_for_copy = waits_for_copy
        self.counters = counters
        self._unawaited = UnawaitedCopy(counters)

    def send(self, request: Request) -> ReplySink | None:
        command = request.command
        if command.is_read:
            for key in request.all_keys():
                self._copy_touch(request, key)
            return self.primary_route.send(request)
        if self._is_same_server(request.key):
            return self.primary_route.send(request)
        if command.conditional:
            write = ConditionalWrite.__new__(ConditionalWrite)
            write.begin(request, self)
            return self.server.send(request)
        self.undecided.supersede(request.key)
        return self._send_twice(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        *before, copy = self.backups.explain(key, is_write)
        if self._is_same_server(key):
            return self.primary_route.explain(key, is_write)
        waits = "waits" if self.waits_for_copy else "does not wait"
        hop = Hop("replicate", copy.server, f"receives a copy; the client {waits} for it ({copy.reason})")
        return [*self.server.explain(key, is_write), *before, hop]

    def _send_twice(self, request: Request) -> ReplySink | None:
        step = ReplicatedWrite.__new__(ReplicatedWrite)
        step.begin(request, self, WAITING)
        session = step.send_copy(request.command, request.line)
        return self.server.send(request) or session

    def _copy_touch(self, request: Request, key: bytes) -> None:
        """A gat changes only the life of the item: the copy is a touch, so that the backup does not send the value."""
        if not self._is_same_server(key):
            self.undecided.supersede(key)
            command, key, line = replica_commands.touch_command(request, key)
            self._send_unawaited(command, key, line)

    def _is_same_server(self, key: bytes) -> bool:
        """True if one server is primary and backup of `key`, as for some keys where the two lists overlap: a copy would be made twice there."""
        return self.backups.server_of(key).label == self.server.label

    def replicate_result(self, request: Request, superseded: bool) -> ReplySink | None:
        """The primary has made the conditional write `request`: send its value to the backup or, if it is `superseded`, delete the key there.
        Returns the session that waits for no further reply, or None. Loop callback or greenlet."""
        self.server.void_fill_of_key(request.key)  # what was fetched since the write was sent is stale
        if superseded:
            self.delete_copy(request.key)
            return request.complete()
        command, _, line = replica_commands.unconditional_write(request)
        step = ReplicatedWrite.__new__(ReplicatedWrite)
        step.begin(request, self, REPLIED)
        session = step.send_copy(command, line)
        if step.sink is None:  # the copy has its reply, or failed, at once; so the client has its reply too
            return session
        return step.proceed(request)

    def delete_copy(self, key: bytes) -> None:
        """The backup may have a value of `key` that the primary has not: delete it there, and do not fill the primary with it."""
        self.server.void_fill_of_key(key)
        command, line = internal_commands.delete(key)
        self._send_unawaited(command, key, line)

    def _send_unawaited(self, command: Command, key: bytes, line: bytes) -> None:
        copy = new_request(command, key, line)
        copy.sink = self._unawaited
        copy.role = COPY
        self.backups.server_of(key).send(copy)

    def invalidate_key(self, key: bytes) -> None:
        """After an internal error it is unknown which of the two servers has made a write of `key`: delete it on both. Never raises."""
        for server in (self.server, self.backups.server_of(key)):
            internal_errors.guarded("replicate.invalidate_key", server.missed_key)(key)


class ReplicatedWrite(Step):
    """The sink of a write and of its copy. Replies to the client once: with the primary's reply or, if the primary failed, with the backup's."""

    __slots__ = ("route", "request", "copy", "_on_primary", "_on_backup")

    def begin(self, request: Request, route: Replicate, on_primary: int) -> None:
        """Step in. `on_primary`: WAITING or REPLIED."""
        self.step_in(request)
        self.route = route
        self.request = request
        self.copy: Request | None = None
        self._on_primary = on_primary
        self._on_backup = WAITING

    def send_copy(self, command: Command, line: bytes) -> ReplySink | None:
        """Returns as Route.send. Loop callback or greenlet."""
        key = self.request.key
        copy = new_request(command, key, line)
        copy.sink = self
        copy.role = COPY
        self.copy = copy
        return self.route.backups.server_of(key).send(copy)

    def on_reply(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = REPLIED
        else:
            self._on_primary = REPLIED
        return self.proceed(one)

    def on_failure(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = FAILED
            self.route.counters.backup_writes_lost += 1
        else:
            self._on_primary = FAILED
        return self.proceed(one)

    def proceed(self, last: Request) -> ReplySink | None:
        """`last`, the write or its copy, has its reply or failed: compare the replies if both are there, and reply to the client if it has none."""
        if self._on_primary == WAITING:
            return None
        if self._on_backup == WAITING and (self._on_primary == FAILED or self.route.waits_for_copy):
            return None
        if self._on_primary == REPLIED and self._on_backup == REPLIED:
            self._compare()
        return self._reply(last) if self.sink is not None else None

    def _compare(self) -> None:
        """Delete the key on the backup if the replies show that its value differs from the primary's."""
        request, copy = self.request, self.copy
        if copy.reply != request.reply and replica_commands.replies_differ(request, copy):
            self.route.counters.backup_writes_differed += 1
            self.route.delete_copy(request.key)

    def _reply(self, last: Request) -> ReplySink | None:
        request = self.request
        self.step_out(request)
        if self._on_primary == REPLIED:
            return request.complete()
        if self._on_backup == REPLIED:
            request.reply = self.copy.reply
            mark_cas_number(request, BACKUP_SET)
            return request.complete()
        return request.fail(request.error, last.failed_server)

    def on_internal_error(self, one: Request) -> ReplySink | None:
        """If `one` is the copy and the write is still in flight, the client gets its reply now and the write goes on."""
        request = self.request
        session = None
        if one is request:
            session = Step.on_internal_error(self, request)
        elif self.sink is not None:
            sink, self.sink = self.sink, None
            request.reply = INTERNAL_ERROR
            session = sink.on_internal_error(request)
        else:  # raised in `_reply`, after `step_out`: the request has its own sink again, or is completed
            session = request.abandon()
        self.route.invalidate_key(request.key)
        return session


class ConditionalWrite(Step):
    """On a conditional write that was sent to the primary: replicates it if the primary made it, sends it to the backup if the primary failed.

    superseded   True once another write of the key was sent to the backup
    """

    __slots__ = ("route", "superseded")

    def begin(self, request: Request, route: Replicate) -> None:
        """Step in."""
        self.step_in(request)
        self.route = route
        self.superseded = False
        route.undecided.add_write(self, request.key)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.route.undecided.remove_write(self, request.key)
        self.step_out(request)
        if request.reply.startswith(request.command.success_prefixes):
            return self.route.replicate_result(request, self.superseded)
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.route.undecided.remove_write(self, request.key)
        self.step_out(request)
        return self.route.backup_as_primary.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.route.undecided.remove_write(self, request.key)
        self.route.invalidate_key(request.key)
        return Step.on_internal_error(self, request)


class UnawaitedCopy(ReplySink):
    """The sink of copies whose replies nothing waits for."""

    __slots__ = ("_counters",)

    def __init__(self, counters: RouteCounters) -> None:
        self._counters = counters

    def on_reply(self, copy: Request) -> ReplySink | None:
        return None

    def on_failure(self, copy: Request) -> ReplySink | None:
        self._counters.backup_writes_lost += 1
        return None

    def on_internal_error(self, copy: Request) -> ReplySink | None:
        return None

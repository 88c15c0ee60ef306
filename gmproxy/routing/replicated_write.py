"""What is done with a write of which the backup receives a copy, until both servers have replied or failed (replicate.py)."""

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.protocol import replica_commands
from gmproxy.protocol.cas_numbers import BACKUP_SET
from gmproxy.protocol.cas_numbers import mark as mark_cas_number
from gmproxy.protocol.commands import Command
from gmproxy.protocol.request import INTERNAL_ERROR, ReplySink, Request, Route
from gmproxy.routing.change import AnswerOfBackup, Change
from gmproxy.routing.counters import RouteCounters
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
        if self.by_key:
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


class ReplicatedWrite(Change):
    """A change by one write; the sink of the write and of its copy, where both are sent. Replies to the client once: with the primary's reply or, if
    the primary failed, with the backup's.

    request          the write, from `wait_for` on
    copy             what the backup was sent, from `replicate` on
    waits_for_copy   True if the client waits for the backup's reply too
    """

    __slots__ = ("request", "copy", "waits_for_copy", "_on_primary", "_on_backup")

    def begin(self, primary: Backend, backup: Backend, key: bytes, word: int, counters: RouteCounters) -> None:
        Change.begin(self, primary, backup, key, word, counters)
        self.request: Request | None = None
        self.copy: Request | None = None

    def wait_for(self, request: Request, waits_for_copy: bool, primary_replied: bool) -> None:
        """Step in on `request`, the write. `primary_replied`: True if that part of the change has ended."""
        self.step_in(request)
        self.request = request
        self.waits_for_copy = waits_for_copy
        self._on_primary = REPLIED if primary_replied else WAITING
        self._on_backup = WAITING
        if not primary_replied:
            self.parts += 1

    def replicate(self, command: Command, line: bytes) -> ReplySink | None:
        """Send the copy. Returns as Route.send. Loop callback or greenlet."""
        copy = self.new_copy(command, line, self)
        self.copy = copy
        return self.send_part(self.backup, copy)

    def on_reply(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = REPLIED
        elif one is self.request:
            self._on_primary = REPLIED
        else:
            return Change.on_reply(self, one)
        return self._proceed_and_end_part(one)

    def on_failure(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = FAILED
            self.counters.backup_writes_lost += 1
        elif one is self.request:
            self._on_primary = FAILED
        else:
            return Change.on_failure(self, one)
        return self._proceed_and_end_part(one)

    def _proceed_and_end_part(self, last: Request) -> ReplySink | None:
        try:
            return self.proceed(last)
        finally:
            self._end_part()  # last: `proceed` may add a part

    def _end_part(self) -> None:
        """Never raises: the client has its reply, and its session must be resumed."""
        try:
            self.end_part()
        except Exception:
            internal_errors.record("replicated_write.end_part")
            self.give_up()

    def proceed(self, last: Request) -> ReplySink | None:
        """`last`, the write or its copy, has its reply or failed: compare the replies if both are there, and reply to the client if it has none."""
        if self._on_primary == WAITING:
            return None
        if self._on_backup == WAITING and (self._on_primary == FAILED or self.waits_for_copy):
            return None
        if self._on_primary == REPLIED and self._on_backup == REPLIED:
            self._compare()
        return self._reply(last) if self.sink is not None else None

    def _compare(self) -> None:
        """Delete the key on the backup if the replies show that its value differs from the primary's."""
        request, copy = self.request, self.copy
        if copy.reply != request.reply and replica_commands.replies_differ(request, copy):
            self.counters.backup_writes_differed += 1
            self.delete_copy()

    def _reply(self, last: Request) -> ReplySink | None:
        request = self.request
        self.step_out(request)
        if self._on_primary == REPLIED:
            return request.complete()
        if self._on_backup == REPLIED and not (request.command.reads_old_value and self.is_contested()):
            request.reply = self.copy.reply
            mark_cas_number(request, BACKUP_SET)
            return request.complete()
        return request.fail(request.error, last.failed_server or request.failed_server)

    def on_internal_error(self, one: Request) -> ReplySink | None:
        """If `one` is the copy and the write is still in flight, the client gets its reply now and the write goes on."""
        request = self.request
        session = None
        if one is not request and one is not self.copy:
            return Change.on_internal_error(self, one)
        if one is request:
            session = Step.on_internal_error(self, request)
        elif self.sink is not None:
            sink, self.sink = self.sink, None
            request.reply = INTERNAL_ERROR
            session = sink.on_internal_error(request)
        else:  # raised in `_reply`, after `step_out`: the request has its own sink again, or is completed
            session = request.abandon()
        self.invalidate()
        self._end_part_of(one)
        return session

    def _end_part_of(self, one: Request) -> None:
        """`one` gets no reply. Does nothing if it has its reply, or has failed: then its part has ended."""
        if one is self.copy:
            ended, self._on_backup = self._on_backup != WAITING, FAILED
        else:
            ended, self._on_primary = self._on_primary != WAITING, FAILED
        if not ended:
            self._end_part()


class ConditionalWrite(Step):
    """On a conditional write that was sent to the primary: replicates it if the primary made it, sends it to the backup if the primary failed.

    superseded         True once another write of the key was sent to the backup
    undecided          the pool's UndecidedWrites
    backup_as_primary  the route to the backup in place of the primary
    waits_for_copy     as for ReplicatedWrite
    """

    __slots__ = ("change", "undecided", "backup_as_primary", "waits_for_copy", "superseded")

    def begin(
        self, request: Request, change: ReplicatedWrite, undecided: UndecidedWrites, backup_as_primary: Route, waits_for_copy: bool
    ) -> None:
        """Step in."""
        self.step_in(request)
        self.change = change
        self.undecided = undecided
        self.backup_as_primary = backup_as_primary
        self.waits_for_copy = waits_for_copy
        self.superseded = False
        undecided.add_write(self, request.key)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.step_out(request)
        if request.reply.startswith(request.command.success_prefixes):
            return self._replicate_result(request)
        if replica_commands.has_removed_value(request):
            self.change.delete_copy()
        return request.complete()

    def _replicate_result(self, request: Request) -> ReplySink | None:
        """The primary has made the write: send its value to the backup or, if the write is superseded, delete the key there."""
        change = self.change
        change.primary.void_fill_of_key(request.key)  # what was fetched since the write was sent is stale
        if self.superseded:
            change.delete_copy()
            return request.complete()
        command, _, line = replica_commands.unconditional_write(request)
        change.wait_for(request, self.waits_for_copy, True)
        session = change.replicate(command, line)
        if change.sink is None:  # the copy has its reply, or failed, at once; so the client has its reply too
            return session
        return change.proceed(request)

    def on_failure(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.step_out(request)
        if self.change.is_contested():  # whether the backup has the other worker's change already is unknown
            return request.fail(request.error, request.failed_server)
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, self.change)
        return self.backup_as_primary.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.change.invalidate()
        return Step.on_internal_error(self, request)


class WriteWithoutCopy(Step):
    """On a write that depends on the stored value, where other proxies may fill the primary from the backup: with a copy, they could fill it with the
    result before the primary makes the write, which would make it twice. So the backup deletes the key when the primary has replied."""

    __slots__ = ("change", "backup_as_primary")

    def begin(self, request: Request, change: Change, backup_as_primary: Route) -> None:
        """Step in. `backup_as_primary`: the route to the backup in place of the primary."""
        self.step_in(request)
        self.change = change
        self.backup_as_primary = backup_as_primary

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        self.change.delete_copy()
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        if self.change.is_contested():
            return request.fail(request.error, request.failed_server)
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, self.change)
        return self.backup_as_primary.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.change.invalidate()
        return Step.on_internal_error(self, request)

"""What is done with a write of which other servers receive copies, until all of them have replied or failed (replicate.py)."""

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import internal_commands, replica_commands
from gmproxy.protocol.cas_numbers import mark as mark_cas_number
from gmproxy.protocol.commands import Command
from gmproxy.protocol.request import INTERNAL_ERROR, ReplySink, Request, Route
from gmproxy.routing.change import AnswerOfBackup, Change
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.step import Step

#: `Request.result` of a part of a ReplicatedWrite: none (yet), waits for the reply, failed, has replied, and its reply was compared with the first.
NO_RESULT, WAITING, FAILED, REPLIED, COMPARED = range(5)


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
    """A change by one write; the sink of the write and of its copies, where all are sent. Replies to the client once: with the reply of the first
    server that has not failed, when enough servers have replied.

    request        the write, from `wait_for` on
    sent           the write and its copies, in the order of the servers, from `wait_for` on
    acks           how many servers must have made the write before the client receives the reply
    waits_for_all  True if the client waits for all servers, whatever their result is
    """

    __slots__ = ("request", "sent", "acks", "waits_for_all")

    def begin(self, primary: Backend, copies: list[Backend], key: bytes, word: int, counters: RouteCounters) -> None:
        Change.begin(self, primary, copies, key, word, counters)
        self.request: Request | None = None
        self.sent: list[Request] = []

    def wait_for(self, request: Request, acks: int, waits_for_all: bool, primary_replied: bool) -> None:
        """Step in on `request`, the write. `primary_replied`: True if that part of the change has ended."""
        self.step_in(request)
        self.request = request
        self.sent.append(request)
        self.acks = acks
        self.waits_for_all = waits_for_all
        if primary_replied:
            request.result = REPLIED
        else:
            request.result = WAITING
            self.parts += 1

    def replicate(self, command: Command, line: bytes) -> ReplySink | None:
        """Send the copies. Returns as Route.send. Loop callback or greenlet."""
        first = len(self.sent)
        for _ in self.copies:  # all of them are parts before the first one can fail
            copy = self.new_copy(command, line, self)
            copy.result = WAITING
            self.sent.append(copy)
        session = None
        for number in range(len(self.copies)):
            copy = self.sent[first + number]
            session = self.send_part(self.copies[number], copy) or session
        return session

    def on_reply(self, one: Request) -> ReplySink | None:
        if one.result == NO_RESULT:  # a deletion
            return Change.on_reply(self, one)
        one.result = REPLIED
        return self._proceed_and_end_part(one)

    def on_failure(self, one: Request) -> ReplySink | None:
        if one.result == NO_RESULT:
            return Change.on_failure(self, one)
        one.result = FAILED
        if one is not self.request:
            self.counters.backup_writes_lost += 1
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
        """`last`, the write or a copy, has its reply or failed: compare the replies that are there, and reply to the client if it has no reply and
        enough servers have made the write, or cannot make it any more."""
        first = None  # the server whose reply counts
        acks = waiting = 0
        for number in range(len(self.sent)):
            result = self.sent[number].result
            if result >= REPLIED:
                acks += 1
                if first is None:
                    first = self.sent[number]
            elif result == WAITING:
                if first is None:
                    return None
                waiting += 1
        if first is not None and acks > 1:
            self._compare(first)
        if self.sink is None or (waiting and (self.waits_for_all or acks < self.acks <= acks + waiting)):
            return None
        return self._reply(first, acks, last)

    def _compare(self, first: Request) -> None:
        """Delete the key on each server whose reply shows that its value differs from that of the `first`."""
        for number in range(1, len(self.sent)):
            copy = self.sent[number]
            if copy.result == REPLIED and copy is not first:
                copy.result = COMPARED
                if copy.reply != first.reply and replica_commands.replies_differ(first, copy):
                    self.counters.backup_writes_differed += 1
                    self.delete_copy(self.copies[number - 1])

    def _reply(self, first: Request | None, acks: int, last: Request) -> ReplySink | None:
        request = self.request
        self.step_out(request)
        if first is None or (first is not request and self._may_not_answer(request, first)):
            return request.fail(request.error, last.failed_server or request.failed_server)
        if acks < self.acks:
            return self._fail_for_acks(request)
        if first is not request:
            request.reply = first.reply
            mark_cas_number(request, self.copies[self.sent.index(first) - 1].set_index)
        return request.complete()

    def _may_not_answer(self, request: Request, copy: Request) -> bool:
        """True if the client must not receive the reply to `copy`: it may contain a change that the primary refused, or is not that to the write."""
        return copy.command is not request.command or (request.command.reads_old_value and self.is_contested())

    def _fail_for_acks(self, request: Request) -> ReplySink | None:
        """Too few servers have made the write, which is not undone."""
        request.reply = None
        request.made = True
        for number in range(len(self.sent)):
            part = self.sent[number]
            if part.result == FAILED:
                return request.fail(part.error, part.failed_server)
        # A server before the primary of this change has failed, or a part was abandoned.
        return request.fail(request.error or EJECTED, request.failed_server or self.primary.label)

    def on_internal_error(self, one: Request) -> ReplySink | None:
        """If `one` is a copy and the write is still in flight, the client gets its reply now and the write goes on."""
        request = self.request
        session = None
        if one.result == NO_RESULT:
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
        if one.result == WAITING:
            one.result = FAILED
            self._end_part()
        else:
            one.result = FAILED


class ConditionalWrite(Step):
    """On a conditional write that was sent to the primary: replicates it if the primary made it, sends it to the backup if the primary failed.

    superseded   True once another write of the key was sent to the copies
    undecided    the pool's UndecidedWrites
    next_route   where the write is sent if the primary failed
    rules        the ReplicaRules
    deletes      True if the copies delete the key instead of storing the value
    """

    __slots__ = ("change", "undecided", "next_route", "rules", "deletes", "superseded")

    def begin(
        self,
        request: Request,
        change: ReplicatedWrite,
        undecided: UndecidedWrites,
        next_route: Route,
        rules: ReplicaRules,
        deletes: bool,
    ) -> None:
        """Step in."""
        self.step_in(request)
        self.change = change
        self.undecided = undecided
        self.next_route = next_route
        self.rules = rules
        self.deletes = deletes
        self.superseded = False
        undecided.add_write(self, request.key)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.step_out(request)
        if request.reply.startswith(request.command.success_prefixes):
            return self._replicate_result(request)
        if replica_commands.has_removed_value(request):
            self.change.delete_copies()
        return request.complete()

    def _replicate_result(self, request: Request) -> ReplySink | None:
        """The primary has made the write: send its value to the copies or, if the write is superseded, delete the key there."""
        change = self.change
        change.primary.void_fill_of_key(request.key)  # what was fetched since the write was sent is stale
        if self.superseded:
            change.delete_copies()
            return request.complete()
        if self.deletes:
            change.wait_for(request, self.rules.acks, self.rules.waits_for_all, True)
            return self._after_copies(request, change.replicate(*internal_commands.delete(request.key)))
        command, _, line = replica_commands.unconditional_write(request)
        change.wait_for(request, self.rules.acks, self.rules.waits_for_all, True)
        return self._after_copies(request, change.replicate(command, line))

    def _after_copies(self, request: Request, session: ReplySink | None) -> ReplySink | None:
        """The copies were sent, which returned `session`."""
        change = self.change
        if change.sink is None:  # enough copies have their replies, or failed, at once; so the client has its reply too
            return session
        return change.proceed(request)

    def on_failure(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.step_out(request)
        if self.change.is_contested() or (request.started and not self.rules.repeats):
            # Whether the next server has the other worker's change already is unknown, or whether the primary has made this one.
            return request.fail(request.error, request.failed_server)
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, self.change, self.rules.acks == 1 or len(self.change.copies) > 1)
        return self.next_route.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.undecided.remove_write(self, request.key)
        self.change.invalidate()
        return Step.on_internal_error(self, request)


class WriteWithoutCopy(Step):
    """On a write that depends on the stored value, where other proxies may fill the primary from a copy: they could fill it with the result before
    the primary makes the write, which would make it twice. So the copies are deleted when the primary has replied."""

    __slots__ = ("change", "next_route", "is_enough")

    def begin(self, request: Request, change: Change, next_route: Route, is_enough: bool) -> None:
        """Step in. `next_route`: where the write is sent if the primary failed; `is_enough`: as for AnswerOfBackup."""
        self.step_in(request)
        self.change = change
        self.next_route = next_route
        self.is_enough = is_enough

    def on_reply(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        self.change.delete_copies()
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        if self.change.is_contested():
            return request.fail(request.error, request.failed_server)
        AnswerOfBackup.__new__(AnswerOfBackup).begin(request, self.change, self.is_enough)
        return self.next_route.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.change.invalidate()
        return Step.on_internal_error(self, request)

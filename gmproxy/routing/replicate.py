"""The backup's share of every change, so that what it answers for a lost primary is neither missing nor old.

A backup gets the same commands in the same order as the primaries: a pool with backups has one link to each server, so there is one order
of changes for all clients of this worker. Among several workers there is none: a primary and its backup may take the changes of two workers in
different orders (docs/failures.md, "What can still go wrong"). Two servers that get the same commands in the same order give the same answers; where
a backup answers otherwise (it had lost the key, or still had one that the primary had not), the key is deleted on it.

add, replace and cas would come to other results there. Their value goes to the backup when the primary has stored it; if another
change of the key went there meanwhile, nobody knows the order any more and the key is deleted instead.

With backup_writes = async the client has its answer as soon as the primary's is there, with sync when both are. A primary that fails is answered
for by the copy.
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

#: What became of a change on one of the two servers.
WAITING, ANSWERED, FAILED = range(3)


class UndecidedChanges:
    """The changes on a condition of which the primary has not told the outcome: {key: a list of Outcome}. Of a pool; routes come and go."""

    __slots__ = ("by_key",)

    def __init__(self) -> None:
        self.by_key: dict[bytes, list[Outcome]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def overtake(self, key: bytes) -> None:
        """Another change of `key` goes to the backup."""
        for outcome in self.by_key.get(key, ()):
            outcome.overtaken = True

    def overtake_all(self) -> None:
        """All keys are about to be flushed."""
        for key in self.by_key:
            self.overtake(key)

    def note_outcome(self, outcome: "Outcome", key: bytes) -> None:
        self.by_key.setdefault(key, []).append(outcome)

    def forget_outcome(self, outcome: "Outcome", key: bytes) -> None:
        outcomes = self.by_key.get(key, [])
        if outcome in outcomes:
            outcomes.remove(outcome)
            if not outcomes:
                del self.by_key[key]


class Replicate(Route):
    """For changes.

    server       the primary
    main         the route to it, for a change that is not copied as it is
    backups      where the copies go
    acting_main  the route to the backups in the place of the primary
    undecided    the pool's UndecidedChanges
    waited_for   True if the client's answer waits for the backup's (backup_writes = sync)
    counters     RouteCounters
    """

    __slots__ = ("server", "main", "backups", "acting_main", "undecided", "waited_for", "counters", "_unwatched")

    def __init__(
        self,
        server: Backend,
        main: Route,
        backups: Shard,
        acting_main: Route,
        undecided: UndecidedChanges,
        waited_for: bool,
        counters: RouteCounters,
    ) -> None:
        self.server = server
        self.main = main
        self.backups = backups
        self.acting_main = acting_main
        self.undecided = undecided
        self.waited_for = waited_for
        self.counters = counters
        self._unwatched = UnwatchedCopy(counters)

    def send(self, request: Request) -> ReplySink | None:
        command = request.command
        if command.is_read:
            for key in request.keys or (request.key,):
                self._copy_touch(request, key)
            return self.main.send(request)
        if self._is_same_server(request.key):
            return self.main.send(request)
        if command.conditional:
            outcome = Outcome.__new__(Outcome)
            outcome.begin(request, self)
            return self.server.send(request)
        self.undecided.overtake(request.key)
        return self._send_twice(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        *before, copy = self.backups.explain(key, is_change)
        if self._is_same_server(key):
            return self.main.explain(key, is_change)
        waits = "its answer is waited for" if self.waited_for else "its answer is not waited for"
        hop = Hop("replicate", copy.server, f"gets a copy, {waits}; it is {copy.reason}")
        return [*self.server.explain(key, is_change), *before, hop]

    def _send_twice(self, request: Request) -> ReplySink | None:
        step = CopiedChange.__new__(CopiedChange)
        step.begin(request, self, WAITING)
        session = step.send_copy(request.command, request.line)
        return self.server.send(request) or session

    def _copy_touch(self, request: Request, key: bytes) -> None:
        """What a retrieval changes is the life of the item: the backup need not send the value for that."""
        if not self._is_same_server(key):
            self.undecided.overtake(key)
            command, key, line = replica_commands.touch_command(request, key)
            self._send_unwatched(command, key, line)

    def _is_same_server(self, key: bytes) -> bool:
        """True if `key` has its own primary for a backup, as some have where the lists overlap: what is made there twice is wrong."""
        return self.backups.server_of(key).label == self.server.label

    def send_outcome(self, request: Request, overtaken: bool) -> ReplySink | None:
        """The primary has made `request`, a change on a condition: the backup must have the same, or nothing. What was fetched from there since
        it was sent to the primary is old."""
        self.server.void_fill(request.key)
        if overtaken:
            self.delete_copy(request.key)
            return request.complete()
        command, _, line = replica_commands.unconditional_write(request)
        step = CopiedChange.__new__(CopiedChange)
        step.begin(request, self, ANSWERED)
        session = step.send_copy(command, line)
        if step.sink is None:  # the copy was answered, or failed, at once; and so the client has its answer
            return session
        return step.proceed(request)

    def delete_copy(self, key: bytes) -> None:
        """Nobody knows what the backup has under `key`, so it had better have nothing; nor may the primary have that."""
        self.server.void_fill(key)
        command, line = internal_commands.delete(key)
        self._send_unwatched(command, key, line)

    def _send_unwatched(self, command: Command, key: bytes, line: bytes) -> None:
        copy = new_request(command, key, line)
        copy.sink = self._unwatched
        copy.role = COPY
        self.backups.server_of(key).send(copy)

    def note_unknown(self, key: bytes) -> None:
        """A fault of our own: nobody knows which of the two servers has made a change of `key`. Never raises."""
        for server in (self.server, self.backups.server_of(key)):
            internal_errors.guarded("replicate.note_unknown", server.missed_key)(key)


class CopiedChange(Step):
    """A change and its copy. Both end here, and their client is answered once, by the primary if that has not failed."""

    __slots__ = ("route", "request", "copy", "_on_main", "_on_backup")

    def begin(self, request: Request, route: Replicate, on_main: int) -> None:
        """Step in. `on_main`: WAITING or ANSWERED."""
        self.step_in(request)
        self.route = route
        self.request = request
        self.copy: Request | None = None
        self._on_main = on_main
        self._on_backup = WAITING

    def send_copy(self, command: Command, line: bytes) -> ReplySink | None:
        key = self.request.key
        copy = new_request(command, key, line)
        copy.sink = self
        copy.role = COPY
        self.copy = copy
        return self.route.backups.server_of(key).send(copy)

    def on_reply(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = ANSWERED
        else:
            self._on_main = ANSWERED
        return self.proceed(one)

    def on_failure(self, one: Request) -> ReplySink | None:
        if one is self.copy:
            self._on_backup = FAILED
            self.route.counters.backup_writes_lost += 1
        else:
            self._on_main = FAILED
        return self.proceed(one)

    def proceed(self, last: Request) -> ReplySink | None:
        """Something is known by `last`, the change or its copy: compare the two answers, and answer the client, if it is time."""
        if self._on_main == WAITING:
            return None
        if self._on_backup == WAITING and (self._on_main == FAILED or self.route.waited_for):
            return None
        if self._on_main == ANSWERED and self._on_backup == ANSWERED:
            self._compare()
        return self._answer(last) if self.sink is not None else None

    def _compare(self) -> None:
        """See to it that the backup has no value that the primary has not."""
        request, copy = self.request, self.copy
        if copy.reply != request.reply and replica_commands.replies_differ(request, copy):
            self.route.counters.backup_writes_differed += 1
            self.route.delete_copy(request.key)

    def _answer(self, last: Request) -> ReplySink | None:
        request = self.request
        self.step_out(request)
        if self._on_main == ANSWERED:
            return request.complete()
        if self._on_backup == ANSWERED:
            request.reply = self.copy.reply
            mark_cas_number(request, BACKUP_SET)
            return request.complete()
        return request.fail(request.error, last.failed_server)

    def on_internal_error(self, one: Request) -> ReplySink | None:
        """If the copy is concerned and the change still under way, that goes on; its client does not wait for it."""
        request = self.request
        session = None
        if one is request:
            session = Step.on_internal_error(self, request)
        elif self.sink is not None:
            sink, self.sink = self.sink, None
            request.reply = INTERNAL_ERROR
            session = sink.on_internal_error(request)
        else:  # raised in `_answer`, after `step_out`: the request has its own sink again, or was completed
            session = request.abandon()
        self.route.note_unknown(request.key)
        return session


class Outcome(Step):
    """A change on a condition, until the primary has told what came of it.

    overtaken   True once another change of the key went to the backup
    """

    __slots__ = ("route", "overtaken")

    def begin(self, request: Request, route: Replicate) -> None:
        """Step in."""
        self.step_in(request)
        self.route = route
        self.overtaken = False
        route.undecided.note_outcome(self, request.key)

    def on_reply(self, request: Request) -> ReplySink | None:
        self.route.undecided.forget_outcome(self, request.key)
        self.step_out(request)
        if request.reply.startswith(request.command.success_prefixes):
            return self.route.send_outcome(request, self.overtaken)
        return request.complete()

    def on_failure(self, request: Request) -> ReplySink | None:
        self.route.undecided.forget_outcome(self, request.key)
        self.step_out(request)
        return self.route.acting_main.send(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self.route.undecided.forget_outcome(self, request.key)
        self.route.note_unknown(request.key)
        return Step.on_internal_error(self, request)


class UnwatchedCopy(ReplySink):
    """Gets the replies to copies that nobody waits for."""

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

"""One change of one key on its servers, from before its first byte is sent until all of them have replied or failed.

It consists of *parts*: requests to the servers whose results it waits for. When all of them have ended, and another worker has changed the key
meanwhile (gmproxy.shared.changes), the order on the servers may differ: then the key is deleted on all of them but the first before the change ends.
"""

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import internal_commands
from gmproxy.protocol.commands import Command
from gmproxy.protocol.request import COPY, ReplySink, Request, new_request
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.step import Step
from gmproxy.shared.changes import ChangeNotes, Note

#: In place of a word of ChangeNotes.
UNNOTED = -1


class Change(Step):
    """The sink of copies whose replies only this change waits for; it steps in on no request. Methods: loop callback or greenlet; none blocks.

    primary           the first server of `key` that may have it: with replicas, another set may stand in for the main one
    copies            the further servers of `key`, in the order of their sets
    counters          the pool's RouteCounters
    parts             requests without a result
    """

    __slots__ = ("primary", "copies", "key", "counters", "parts", "_notes", "_note", "_is_noted", "_deletes")

    def begin(self, primary: Backend, copies: list[Backend], key: bytes, word: int, counters: RouteCounters) -> None:
        """Must be called first, before anything is sent. `word`: as for ChangeNotes.begin_change, or UNNOTED: only the life of the item changes,
        and no value can differ."""
        self.sink = None
        self.primary = primary
        self.copies = copies
        self.key = key
        self.counters = counters
        self.parts = 0
        self._deletes = False
        self._notes: ChangeNotes = primary.notes
        self._is_noted = word != UNNOTED
        self._note: Note | None = self._notes.begin_change(key, primary.tag, word) if self._is_noted else None

    def is_contested(self) -> bool:
        """True if another worker changes the key at the same time, or has done so: the servers may have different values. Also after an internal
        error that has ended the change."""
        if not self._is_noted:
            return False
        return self._note is None or self._notes.is_contested(self._note)

    def primary_has_changed(self) -> bool:
        """For a change that only copies are sent: True if another worker has changed the key on the primary meanwhile. Also after an internal
        error that has ended the change."""
        if not self._is_noted:
            return False
        return self._note is None or self._notes.primary_has_changed(self._note)

    def add_part(self) -> None:
        self.parts += 1

    def end_part(self) -> None:
        """One of the parts has its result. Never raises."""
        self.parts -= 1
        if self.parts:
            return
        try:
            if not self._deletes and self._note is not None and self.is_contested():
                self._deletes = True
                self.counters.conflicting_changes += 1
                if self._note.alone:  # the primary has the other change, and may have it alone
                    self.primary.missed_key(self.key)
                self.delete_copies()
            else:
                self.end()
        except Exception:
            internal_errors.record("change.end_part")
            self.give_up()

    def give_up(self) -> None:
        """After an internal error: it is not known when all parts have their results. The key is deleted on all servers. Never raises."""
        self.invalidate()
        internal_errors.guarded("change.give_up", self.end)()

    def end(self) -> None:
        """All parts have their results. Called by this class, and by the code that has begun a change and sends nothing. Never raises."""
        note, self._note = self._note, None
        if note is not None:
            self._notes.end_note(note)

    # -- copies

    def new_copy(self, command: Command, line: bytes, sink: ReplySink) -> Request:
        """A copy of the change for one of `copies`, which is a part of it: `sink` must call `end_part`."""
        copy = new_request(command, self.key, line)
        copy.sink = sink
        copy.role = COPY
        self.parts += 1
        return copy

    def send_copies(self, command: Command, line: bytes) -> None:
        """Send all `copies` a request for whose replies only this change waits."""
        for server in self.copies:
            self.send_part(server, self.new_copy(command, line, self))

    def send_part(self, server: Backend, part: Request) -> ReplySink | None:
        """Send `part`, a request of this change, to `server`. Returns as Route.send. Never raises: after an internal error the part is abandoned, so
        that the change does not wait for its result, and the key is deleted on `server`."""
        try:
            return server.send(part)
        except Exception:
            internal_errors.record("change.send_part")
            internal_errors.guarded("change.send_part", server.missed_key)(self.key)
            return part.abandon()

    def delete_copies(self) -> None:
        """The copies may have a value of the key that the primary has not: delete it there, and fill no server with it."""
        for server in self.copies:
            self.delete_copy(server)

    def delete_copy(self, server: Backend) -> None:
        """As `delete_copies`, for one of them."""
        self.primary.void_fill_of_key(self.key)
        for other in self.copies:
            other.void_fill_of_key(self.key)
        command, line = internal_commands.delete(self.key)
        self.send_part(server, self.new_copy(command, line, self))

    def delete_on_primary(self) -> None:
        """The backup makes the change in the place of the primary, whose value is to be deleted."""
        command, line = internal_commands.delete(self.key)
        request = new_request(command, self.key, line)
        request.sink = self
        self.parts += 1
        self.send_part(self.primary, request)

    def invalidate(self) -> None:
        """After an internal error it is unknown which servers have made the change: the key is deleted on all of them. Never raises."""
        for server in (self.primary, *self.copies):
            internal_errors.guarded("change.invalidate", server.missed_key)(self.key)

    def on_reply(self, copy: Request) -> ReplySink | None:
        self.end_part()
        return None

    def on_failure(self, copy: Request) -> ReplySink | None:
        if copy.role == COPY:
            self.counters.backup_writes_lost += 1
        self.end_part()
        return None

    def on_internal_error(self, copy: Request) -> ReplySink | None:
        self.end_part()
        return None


class PartOfChanges(Step):
    """On a request that is a part of each of `changes`, wherever it is sent: ends these parts when its client is sent the result."""

    __slots__ = ("changes",)

    def begin(self, request: Request, changes: list[Change]) -> None:
        """Step in."""
        self.changes = changes
        for change in changes:
            change.add_part()
        self.step_in(request)

    def on_reply(self, request: Request) -> ReplySink | None:
        self._end_parts()
        return Step.on_reply(self, request)

    def on_failure(self, request: Request) -> ReplySink | None:
        self._end_parts()
        return Step.on_failure(self, request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self._end_parts()
        return Step.on_internal_error(self, request)

    def _end_parts(self) -> None:
        changes, self.changes = self.changes, []
        for change in changes:
            try:
                change.end_part()
            except Exception:
                internal_errors.record("change.end_parts")
                change.give_up()


class AnswerOfBackup(Step):
    """On a request that depends on the stored value and that the backup answers in the place of the primary: fails it if another worker has changed
    the key meanwhile, since the answer may contain a change that the primary refused, or if one server is not enough."""

    __slots__ = ("change", "is_enough")

    def begin(self, request: Request, change: Change, is_enough: bool) -> None:
        """Step in. `is_enough`: False if more servers must make the write than the one that answers."""
        self.step_in(request)
        self.change = change
        self.is_enough = is_enough

    def on_reply(self, request: Request) -> ReplySink | None:
        if self.is_enough and not self.change.is_contested():
            return Step.on_reply(self, request)
        self.step_out(request)
        request.made = True
        return request.fail(EJECTED, self.change.primary.label)


class AnswerOfActing(AnswerOfBackup):
    """On a request that depends on the stored value and that a replica answers in the place of the main set: fails it if another worker has changed
    the key on the main set meanwhile, which does not have this change."""

    __slots__ = ()

    def on_reply(self, request: Request) -> ReplySink | None:
        if not self.change.primary_has_changed():
            return Step.on_reply(self, request)
        self.step_out(request)
        request.made = True
        return request.fail(EJECTED, self.change.primary.label)


class NotedFlush(Step):
    """On a flush_all in a pool with backups: all keys change until it has its result."""

    __slots__ = ("_notes",)

    def begin(self, request: Request, notes: ChangeNotes) -> None:
        """Step in, before anything is sent."""
        self.step_in(request)
        self._notes = notes
        notes.begin_flush()

    def on_reply(self, request: Request) -> ReplySink | None:
        self._end()
        return Step.on_reply(self, request)

    def on_failure(self, request: Request) -> ReplySink | None:
        self._end()
        return Step.on_failure(self, request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self._end()
        return Step.on_internal_error(self, request)

    def _end(self) -> None:
        notes, self._notes = self._notes, None
        if notes is not None:
            notes.end_flush()

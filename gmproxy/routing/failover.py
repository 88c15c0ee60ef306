"""A request that the primary does not reply to goes to the backup.

For a read that is all there is to it. Where the backup receives a copy of every write (replicate.py), only conditional writes (add, replace,
cas) reach it this way; with backup_writes = off, every write does.
"""

from typing import TYPE_CHECKING

from gmproxy.backend.backend import Backend
from gmproxy.errors import EJECTED
from gmproxy.protocol import cas_numbers
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.replica_commands import limit_life
from gmproxy.protocol.request import BACKUP, ReplySink, Request, Route, new_request
from gmproxy.routing.change import Change, PartOfChanges
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.shard import Shard, line_before_keys
from gmproxy.routing.step import Step
from gmproxy.shared.changes import BACKUP_WORD, PRIMARY_WORD


class Failover(Route):
    """
    primary   the route that requests are sent to
    backup    the route that they are sent to if that fails
    """

    __slots__ = ("primary", "backup")

    def __init__(self, primary: Route, backup: Route) -> None:
        self.primary = primary
        self.backup = backup

    def send(self, request: Request) -> ReplySink | None:
        self._begin_attempt(request)
        return self.primary.send(request)

    def _begin_attempt(self, request: Request) -> "PrimaryAttempt":
        attempt = PrimaryAttempt.__new__(PrimaryAttempt)
        attempt.backup = self.backup
        attempt.step_in(request)
        return attempt

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        *before, last = self.backup.explain(key, is_write)
        return [*self.primary.explain(key, is_write), *before, Hop("failover", last.server, f"if the primary fails ({last.reason})")]


class PrimaryAttempt(Step):
    """On a request that was sent to the primary: if that fails, sends it to `backup`."""

    __slots__ = ("backup",)

    if TYPE_CHECKING:
        backup: Route

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        if request.keys is None:
            return self.backup.send(request)
        # A request for several keys may be split once more, by the ring of the backups. That needs its line without the keys.
        retry = new_request(request.command, request.key, line_before_keys(request))
        retry.keys = request.keys
        retry.sink = FailoverReply(request)
        retry.connection_index = request.connection_index
        retry.role = BACKUP
        return self.backup.send(retry)


class FailoverReply(ReplySink):
    """The sink of a request to the backups for several keys: passes the result on to the `request` that failed on the primary."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def on_reply(self, retry: Request) -> ReplySink | None:
        request = self.request
        request.reply = retry.reply
        request.has_value_offsets = False
        return request.complete()

    def on_failure(self, retry: Request) -> ReplySink | None:
        request = self.request
        request.reply = retry.reply
        return request.fail(retry.error, retry.failed_server)

    def on_internal_error(self, retry: Request) -> ReplySink | None:
        return self.request.abandon()


class WriteFailover(Failover):
    """For writes where backups receive no copies (backup_writes = off).

    A backup then has only the keys that were written there while their primary failed, its stand-in keys. Such a key is stale there once it is
    written on its primary, so it is deleted.

    server    the primary
    backups   the Shard of all backups
    counters  the pool's RouteCounters
    """

    __slots__ = ("server", "backups", "counters")

    def __init__(self, server: Backend, primary: Route, backup: Route, backups: Shard, counters: RouteCounters) -> None:
        super().__init__(primary, backup)
        self.server = server
        self.backups = backups
        self.counters = counters

    def send(self, request: Request) -> ReplySink | None:
        self._note_changes(request)
        attempt = self._begin_attempt(request)
        session = self.primary.send(request)
        if attempt.sink is not None:  # the primary has not failed at once
            for key in request.all_keys():
                self.backups.server_of(key).drop_stand_in_key(key)
        return session

    def _note_changes(self, request: Request) -> None:
        """Other workers must not fill the primary with what the backup has, nor return it, until the write is done."""
        changes = []
        for key in request.all_keys():
            change = Change.__new__(Change)
            change.begin(
                self.server, [self.backups.server_of(key)], key, BACKUP_WORD if self.server.health.ejected else PRIMARY_WORD, self.counters
            )
            changes.append(change)
        PartOfChanges.__new__(PartOfChanges).begin(request, changes)


class BackupAsPrimary(Route):
    """The backup `server`, or that of a replica or of the gutter, for requests on which their primary failed.

    records_keys   True where it receives no copies: a written key becomes a stand-in key, which is deleted once the primary is back
    next_route     the route to it
    sets           number of sets of the pool
    max_life       of the gutter: seconds that an item lives there at most; else 0
    """

    __slots__ = ("server", "records_keys", "next_route", "sets", "max_life")

    def __init__(self, server: Backend, records_keys: bool, next_route: Route | None = None, sets: int = 2, max_life: int = 0) -> None:
        """`next_route`: None if it is the server itself."""
        self.server = server
        self.records_keys = records_keys
        self.next_route = next_route or server
        self.sets = sets
        self.max_life = max_life

    def send(self, request: Request) -> ReplySink | None:
        server = self.server
        command = request.command
        if server.label == request.failed_server and not command.idempotent:
            return request.fail(request.error, server.label)  # the same server is primary and backup, and may have done it already
        if (command.is_read or command.reads_old_value) and (self._are_under_way(request) or self.records_keys and server.may_lag()):
            # Whether the backup has that change already is unknown.
            return request.fail(request.error or EJECTED, request.failed_server or server.label)
        if command.conditional:
            number_is_of = cas_numbers.set_of(request, self.sets)
            if number_is_of is not None:
                if number_is_of == server.set_index:
                    request.line = cas_numbers.line_without_mark(request)
                elif not server.is_expected_to_fail(request):
                    return reply_exists(request, server)
        if self.max_life and command.is_write:
            if request.made or (request.started and command.reads_old_value):
                return request.fail(request.error, request.failed_server)  # a server has made it, or may have
            request.line = limit_life(command, request.line, self.max_life)
        if self.records_keys and command.is_write:
            for key in request.all_keys():
                server.add_stand_in_key(key)
            write = FailedOverWrite.__new__(FailedOverWrite)
            write.server = server
            write.step_in(request)
        if command.is_meta or command.returns_values:
            numbers = MarkCasNumbers.__new__(MarkCasNumbers)
            numbers.of_set = server.set_index
            numbers.step_in(request)
        request.role = BACKUP
        return self.next_route.send(request)

    def _are_under_way(self, request: Request) -> bool:
        """True if there are other workers, and one of the keys is being changed, but by `request`."""
        notes = self.server.notes
        own = 1 if request.command.is_write else 0
        for key in request.all_keys():
            if notes.are_under_way(key, own, self.server.set_index > 1):
                return True
        return False

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return self.next_route.explain(key, is_write)


class FailedOverWrite(Step):
    """A write that was sent to the backup `server` because its primary failed.

    If its key is no longer a stand-in key when the reply arrives, the key was dropped, and perhaps deleted there before this write was made.
    So it is deleted again.
    """

    __slots__ = ("server",)

    def on_reply(self, request: Request) -> ReplySink | None:
        for key in request.all_keys():
            if not self.server.may_be_stand_in_key(key):
                self.server.missed_key(key)
        return Step.on_reply(self, request)


class MarkCasNumbers(Step):
    """Marks the cas numbers in the reply as those of the set `of_set`: the primary has others for the same item (protocol/cas_numbers.py)."""

    __slots__ = ("of_set",)

    if TYPE_CHECKING:
        of_set: int

    def on_reply(self, request: Request) -> ReplySink | None:
        cas_numbers.mark(request, self.of_set)
        return Step.on_reply(self, request)


def reply_exists(request: Request, server: Backend) -> ReplySink | None:
    """Reply to `request`, a write with a cas number, that the item has another one: the number is not from the set of `server`, which decides it.
    It is counted there as if the server had replied. Returns the session that waits for no further reply, or None. Loop callback or greenlet."""
    request.reply = cas_numbers.exists_reply(request)
    server.counters.count_reply(request.command)
    server.counters.count_write(request)
    return request.complete()

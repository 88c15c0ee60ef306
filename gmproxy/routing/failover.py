"""A primary that cannot answer is answered for by the backup.

A read is simply asked again there. A change reaches the backup this way where it was not copied to it anyway (replicate.py): one on a condition,
and every change where backups get no copies.
"""

from gmproxy.backend.backend import Backend
from gmproxy.protocol import cas_numbers
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import BACKUP, ReplySink, Request, Route, new_request
from gmproxy.routing.shard import Shard
from gmproxy.routing.step import Step


class Failover(Route):
    """
    main     is asked first
    backup   is asked if that fails
    """

    __slots__ = ("main", "backup")

    def __init__(self, main: Route, backup: Route) -> None:
        self.main = main
        self.backup = backup

    def send(self, request: Request) -> ReplySink | None:
        self._attempt(request)
        return self.main.send(request)

    def _attempt(self, request: Request) -> "Attempt":
        """The step that asks the backup if the main server fails on `request`."""
        attempt = Attempt.__new__(Attempt)
        attempt.backup = self.backup
        attempt.step_in(request)
        return attempt

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        *before, last = self.backup.explain(key, is_change)
        return [*self.main.explain(key, is_change), *before, Hop("failover", last.server, f"if that fails; it is {last.reason}")]


class Attempt(Step):
    """A request that was sent to the main server. `backup`: where it is sent if that fails."""

    __slots__ = ("backup",)

    def on_failure(self, request: Request) -> ReplySink | None:
        self.step_out(request)
        if request.keys is None:
            return self.backup.send(request)
        question = new_request(request.command, request.key, prefix_of(request))
        question.keys = request.keys
        question.sink = Substitute(request)
        question.connection_index = request.connection_index
        question.role = BACKUP
        return self.backup.send(question)


class Substitute(ReplySink):
    """Hands the answer to one request to another that could not get its own."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def on_reply(self, question: Request) -> ReplySink | None:
        request = self.request
        request.reply = question.reply
        request.has_value_offsets = False
        return request.complete()

    def on_failure(self, question: Request) -> ReplySink | None:
        request = self.request
        request.reply = question.reply
        return request.fail(question.error, question.failed_server)

    def on_internal_error(self, question: Request) -> ReplySink | None:
        return self.request.abandon()


class Standby(Failover):
    """For changes of which the backup gets no copies (backup_writes = off): it has them from when it stood in. Such a key is old there as soon as it
    changes on its primary.

    backups   the servers that stand in
    """

    __slots__ = ("backups",)

    def __init__(self, main: Route, backup: Route, backups: Shard) -> None:
        super().__init__(main, backup)
        self.backups = backups

    def send(self, request: Request) -> ReplySink | None:
        attempt = self._attempt(request)
        session = self.main.send(request)
        if attempt.sink is not None:  # the primary has it, and has not failed at once
            for key in request.keys or (request.key,):
                self.backups.server_of(key).guest_leaves(key)
        return session


class ActingMain(Route):
    """One backup, in the place of a primary that failed on a request.

    keeps_guests   True if it gets no copies: the keys of changes that are sent to it now are deleted there when the primary is back
    """

    __slots__ = ("server", "keeps_guests")

    def __init__(self, server: Backend, keeps_guests: bool) -> None:
        self.server = server
        self.keeps_guests = keeps_guests

    def send(self, request: Request) -> ReplySink | None:
        server = self.server
        command = request.command
        if server.label == request.failed_server and not command.idempotent:
            return request.fail(request.error, server.label)  # it is the same server, and may have made it already
        if self.keeps_guests and command.is_write:
            for key in request.keys or (request.key,):
                server.has_guest(key)
            guest = GuestChange.__new__(GuestChange)
            guest.server = server
            guest.step_in(request)
        if command.conditional:
            request.line = cas_numbers.line_for(request, cas_numbers.BACKUP_SET)
        if command.is_meta or command.returns_values:
            CasMarks.__new__(CasMarks).step_in(request)
        request.role = BACKUP
        return server.send(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        return self.server.explain(key, is_change)


class GuestChange(Step):
    """A change that goes to `server` in the place of its primary. If the key has left before it was made there, what was noted then may have been
    deleted before: so it is noted again."""

    __slots__ = ("server",)

    def on_reply(self, request: Request) -> ReplySink | None:
        for key in request.keys or (request.key,):
            if not self.server.is_guest(key):
                self.server.missed_key(key)
        return Step.on_reply(self, request)


class CasMarks(Step):
    """The cas numbers in the answer are those of the backup."""

    __slots__ = ()

    def on_reply(self, request: Request) -> ReplySink | None:
        cas_numbers.mark(request, cas_numbers.BACKUP_SET)
        return Step.on_reply(self, request)


def prefix_of(part: Request) -> bytes:
    """What stands in the line of `part`, a request for several keys, before the first of them."""
    words = 2 if part.command.is_write else 1  # gat EXPTIME
    return b" ".join(part.line.split(b" ", words)[:words]) + b" "

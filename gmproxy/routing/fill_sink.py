"""What follows when a value was sent to a primary to fill it, until the fill has ended.

Other proxies write to the same servers, where the setting says so, and void no fill of this one: a value that was read on the backup may have been
deleted by the time it is added to the primary. So such a fill is verified: the primary returns the cas number of what was added, the backup is
read again, and if it has another value by now, what was added is deleted by its number. As a delete is sent to the backup first and then to the
primary (backup_first.py), either the second reading finds it done on the backup, or it is still to come on the primary.
tests/unit/test_verified_fills.py tries all orders of events.
"""

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.protocol import internal_commands
from gmproxy.protocol.commands import META_SET_IF, Command
from gmproxy.protocol.fetched_item import Item, parse_meta_get
from gmproxy.protocol.meta_header import MetaHeader
from gmproxy.protocol.request import BACKUP, PRIMARY, ReplySink, Request, Route, new_request
from gmproxy.routing.fill_rules import FillRules

#: How the replies begin to the deletion of what was added: done, or gone. After EX, another write has changed the value: if that was an append, what
#: was added is still a part of it.
NOT_LEFT = (b"HD", b"NF")


class FillSink(ReplySink):
    """The sink of an `add` that fills `primary` with `key`: whatever its result is, the fill has ended. Methods: loop callback or greenlet."""

    def __init__(self, primary: Backend, key: bytes) -> None:
        self.primary = primary
        self.key = key
        self._has_ended = False

    def on_reply(self, write: Request) -> ReplySink | None:
        self.end_fill()
        return None

    def on_failure(self, write: Request) -> ReplySink | None:
        self.end_fill()
        return None

    def on_internal_error(self, write: Request) -> ReplySink | None:
        internal_errors.guarded("fill_sink.end_fill", self.end_fill)()
        return None

    def end_fill(self) -> None:
        """Report it to the primary, once."""
        if not self._has_ended:
            self._has_ended = True
            self.primary.fill_written(self.key)


class VerifiedFill(FillSink):
    """The sink of an `ms` that fills `primary` with the `item` of `source`, then of the second reading there, and of the deletion. If one of the last
    two fails, the key is one that the primary missed: it is deleted there before it is read."""

    def __init__(self, primary: Backend, key: bytes, source: Route, item: Item, rules: FillRules, connection_index: int) -> None:
        super().__init__(primary, key)
        self._source = source
        self._item = item
        self._rules = rules
        self._connection_index = connection_index
        self._number = 0  # the cas number of what was added

    def on_reply(self, request: Request) -> ReplySink | None:
        if request.command is META_SET_IF:
            return self._on_added(request.reply)
        if request.command.is_read:
            return self._on_second_reading(request.reply)
        if not request.reply.startswith(NOT_LEFT):
            self.primary.missed_key(self.key)
        elif request.reply.startswith(b"HD"):
            self.primary.counters.fills_undone += 1
        return None

    def on_failure(self, request: Request) -> ReplySink | None:
        self.end_fill()
        if request.command.is_read:  # the primary itself notes writes that have failed
            self.primary.missed_key(self.key)
        return None

    def on_internal_error(self, request: Request) -> ReplySink | None:
        internal_errors.guarded("fill_sink.missed_key", self.primary.missed_key)(self.key)
        return super().on_internal_error(request)

    def _on_added(self, reply: bytes) -> ReplySink | None:
        self.end_fill()
        self._rules.note_reply(self.primary, reply)
        if not reply.startswith(b"HD"):
            return None  # it has a value already, or has refused this one
        header = MetaHeader()
        header.parse(reply)
        self._number = header.number(b"c", 0)
        return self._follow_up(self._source, BACKUP, *internal_commands.fetch(self.key, returns_life=False))

    def _on_second_reading(self, reply: bytes) -> ReplySink | None:
        found = parse_meta_get(reply, 0)
        if found is None and not reply.startswith(b"EN"):  # an error
            self.primary.missed_key(self.key)
            return None
        if found is not None and (found.flags, found.data) == (self._item.flags, self._item.data):
            return None
        return self._follow_up(self.primary, PRIMARY, *internal_commands.delete_by_number(self.key, self._number))

    def _follow_up(self, route: Route, role: int, command: Command, line: bytes) -> ReplySink | None:
        request = new_request(command, self.key, line)
        request.sink = self
        request.connection_index = self._connection_index
        request.role = role
        return route.send(request)

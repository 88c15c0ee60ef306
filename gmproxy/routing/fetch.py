"""Fetches values from the backups on behalf of one request, and adds them to the primary that has not got them (fill.py says when).

The question is a meta get (memcached 1.6), which tells the remaining life of the item, or a plain get where the backup is older; a server of the
binary protocol never tells it. The primary gets the value by `add`, which never overwrites what a client may have written there in the meantime.

Between the question and the `add` somebody may change the key: then what was fetched is old and is not added. `fetches` of the
primary says what is under way; a change takes its key out when it is sent. Several may ask for one key at a time: the first answer fills it
for all of them.
"""

from collections.abc import Collection

from gmproxy.backend.backend import Backend
from gmproxy.protocol import internal_commands
from gmproxy.protocol.commands import COMMANDS, META_GET, Command
from gmproxy.protocol.meta_header import MetaHeader, replace_cas
from gmproxy.protocol.request import BACKUP, ReplySink, Request, Route, new_request
from gmproxy.protocol.value_blocks import blocks_by_key, in_order
from gmproxy.protocol.value_header import ValueHeader
from gmproxy.routing.shard import Shard

GET = COMMANDS[b"get"]

#: Given to a `gets` that the backup answered. The primary has another number for the item, so a `cas` with this
#: one fails with EXISTS, and the client reads again: it never overwrites a change it has not seen.
UNMATCHED_CAS = 2**64 - 1


class Fetching(ReplySink):
    """Fetches values from the backups for `primary` on behalf of `request`.

    source     the backups
    adds       the route by which the primary gets the values
    left       questions without an answer
    in_doubt   True if a backup failed on one of them
    """

    __slots__ = ("request", "primary", "source", "adds", "left", "in_doubt")

    def __init__(self, request: Request, primary: Backend, source: Shard, adds: Route) -> None:
        self.request = request
        self.primary = primary
        self.source = source
        self.adds = adds
        self.left = 0
        self.in_doubt = False

    def fetch(self, keys: Collection[bytes]) -> ReplySink | None:
        """Returns the session that waits for no more replies by this, if any."""
        self.left = len(keys)
        for key in keys:
            self.primary.fetches.setdefault(key, self)  # the first to ask is the first to know, and that will do
        tells_life = self.primary.options.backend_protocol == "text"
        session = None
        try:
            for key in keys:
                session = self._ask(key, *internal_commands.fetch(key, tells_life)) or session
        except Exception:
            self._forget_keys()  # else nobody could fill them
            raise
        return session

    def _forget_keys(self) -> None:
        """What this was to fetch for the primary may be fetched by others."""
        for key in self.request.keys or (self.request.key,):
            if self.primary.fetches.get(key) is self:
                del self.primary.fetches[key]

    def _ask(self, key: bytes, command: Command, line: bytes) -> ReplySink | None:
        question = new_request(command, key, line)
        question.sink = self
        question.connection_index = self.request.connection_index
        question.role = BACKUP
        return self.source.send(question)

    def on_reply(self, question: Request) -> ReplySink | None:
        reply = question.reply
        if question.command is META_GET and reply.startswith((b"ERROR", b"CLIENT_ERROR")) and internal_commands.is_text(question.key):
            return self._ask(question.key, GET, b"get %b\r\n" % question.key)
        parse = parse_meta_get if question.command is META_GET else parse_get
        found = parse(reply, self.primary.options.refill_ttl)
        if found is not None:
            self.found(question.key, *found)
        if self.primary.fetches.get(question.key) is self:
            del self.primary.fetches[question.key]
            if found is not None:
                self._add(question.key, *found)
        return self._count()

    def on_failure(self, question: Request) -> ReplySink | None:
        self.in_doubt = True
        if self.primary.fetches.get(question.key) is self:
            del self.primary.fetches[question.key]
        return self._count()

    def _count(self) -> ReplySink | None:
        self.left -= 1
        return None if self.left else self.done()

    def _add(self, key: bytes, flags: int, life: int, data: bytes) -> None:
        """`data` is the value with its CRLF, `life` its remaining seconds, 0 for ever."""
        command, line = internal_commands.add_if_absent(key, flags, life, data)
        refill = new_request(command, key, line)  # without a sink: nobody waits for it
        refill.connection_index = self.request.connection_index
        self.adds.send(refill)

    def found(self, key: bytes, flags: int, life: int, data: bytes) -> None:
        """The backup has `key`."""

    def done(self) -> ReplySink | None:
        """All questions are answered."""
        raise NotImplementedError

    def on_internal_error(self, question: Request) -> ReplySink | None:
        """Nothing that was fetched for the request is added to the primary, and the request is abandoned."""
        self._forget_keys()
        return self.request.abandon()


class Refill(Fetching):
    """For a read: asks for the keys that `request`, answered by `primary`, did not find there.

    values        the VALUE blocks there are, by key
    """

    __slots__ = ("values", "_had")

    def ask(self) -> ReplySink | None:
        request = self.request
        self.values = blocks_by_key(request.reply)
        self._had = len(self.values)
        keys = [key for key in dict.fromkeys(request.keys or [request.key]) if key not in self.values]
        if not keys:  # a key that was asked for twice was found once: gat may have ended its life
            return request.complete()
        return self.fetch(keys)

    def found(self, key: bytes, flags: int, life: int, data: bytes) -> None:
        cas = b" %d" % UNMATCHED_CAS if self.request.command.name in (b"gets", b"gats") else b""
        self.values[key] = [b"VALUE %b %d %d%b\r\n%b" % (key, flags, len(data) - 2, cas, data)]

    def done(self) -> ReplySink | None:
        request = self.request
        if not self.in_doubt:
            asked = len(request.keys or (request.key,)) - self._had
            self.primary.lacked(asked, len(self.values) - self._had)
        request.reply = in_order(request.keys or [request.key], self.values)
        request.has_value_offsets = False
        return request.complete()


class MetaRefill(Fetching):
    """For an mg: the backup is asked the same as the primary was, so that the client gets the answer that it asked for. If there is
    one, the backup is asked again for what the primary needs."""

    __slots__ = ()

    def ask(self) -> ReplySink | None:
        request = self.request
        same = new_request(request.command, request.key, request.line)
        same.sink = self
        same.connection_index = request.connection_index
        same.role = BACKUP
        return self.source.send(same)

    def on_reply(self, question: Request) -> ReplySink | None:
        if self.left:
            return Fetching.on_reply(self, question)
        request = self.request
        found = question.reply.startswith((b"HD", b"VA"))
        self.primary.lacked(1, int(found))
        if found:
            request.reply = without_cas(question.reply)
            self.fetch([request.key])
        return request.complete()

    def on_failure(self, question: Request) -> ReplySink | None:
        if self.left:
            return Fetching.on_failure(self, question)
        return self.request.complete()  # with the primary's miss

    def done(self) -> ReplySink | None:
        return None


def parse_meta_get(reply: bytes, life: int) -> tuple[int, int, bytes] | None:
    """(flags, life, data with CRLF) of a reply to `mg key f t v`, or None if there is no value; `life` if it does not tell."""
    header = MetaHeader()
    header.parse(reply)
    if header.code != b"VA":
        return None
    for flag in header.flags:
        if flag[:1] == b"t":
            life = max(int(flag[1:]), 0)  # -1: for ever
    return header.number(b"f", 0), life, reply[header.data_start :]


def parse_get(reply: bytes, life: int) -> tuple[int, int, bytes] | None:
    """The same of a reply to `get key`, which does not tell the life."""
    header = ValueHeader()
    if not header.parse_value(reply, 0):
        return None
    return header.flags, life, reply[header.data_start : header.end]


def without_cas(reply: bytes) -> bytes:
    """A meta reply of the backup with a number that no item of the primary has."""
    return replace_cas(reply, lambda number: UNMATCHED_CAS)

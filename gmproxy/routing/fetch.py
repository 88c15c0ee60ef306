"""Fetches values from the backups for one request, and fills the primary with them. fill.py decides when.

The lookup is a meta get (memcached 1.6), whose reply has the remaining life of the item. Backups older than that get a plain get, whose reply
has no life, as the replies of servers of the binary protocol. The primary gets the value by an `add`, or an `ms` in add mode, which never overwrites
what a client has written there in the meantime.

A write of the key between the lookup and the `add` makes the fetched value stale: it must not be added. The primary knows which fetch may
fill which key (`Backend.start_fill`), and every write voids the fill of its key. Of several fetches of one key the first one fills it. A fill
ends with `Backend.fill_written`: when the `add` was answered or has failed, or when it turns out that there is nothing to add (fill_sink.py).
Whether there may be a fill at all: fill_rules.py.
"""

from collections.abc import Collection

from gmproxy.backend.backend import Backend
from gmproxy.protocol import internal_commands
from gmproxy.protocol.commands import COMMANDS, META_GET, Command
from gmproxy.protocol.fetched_item import Item, parse_get, parse_meta_get
from gmproxy.protocol.request import BACKUP, PRIMARY, ReplySink, Request, Route, new_request
from gmproxy.protocol.value_blocks import blocks_by_key, in_order
from gmproxy.routing.fill_rules import FillRules
from gmproxy.routing.fill_sink import FillSink, VerifiedFill
from gmproxy.routing.sources import Sources

GET = COMMANDS[b"get"]
GETS = COMMANDS[b"gets"]


class Fetch(ReplySink):
    """Fetches values from the backups and fills `primary` with them, for `request`. Methods: loop callback or greenlet.

    source       the Sources
    fill_writes  the route by which the primary is filled
    rules        the pool's FillRules
    left         lookups without a reply
    in_doubt     True if a backup failed on one of them
    returns_cas  True if the client receives the cas numbers
    """

    __slots__ = ("request", "primary", "source", "fill_writes", "rules", "left", "in_doubt", "returns_cas", "_keys")

    def __init__(self, request: Request, primary: Backend, source: Sources, fill_writes: Route, rules: FillRules) -> None:
        self.request = request
        self.primary = primary
        self.source = source
        self.fill_writes = fill_writes
        self.rules = rules
        self.left = 0
        self.in_doubt = False
        self.returns_cas = request.command.name in (b"gets", b"gats")
        self._keys: Collection[bytes] = ()  # that are looked up once the primary has replied to a probe

    def may_fetch(self, key: bytes) -> bool:
        """False if another worker is changing `key`: it is unknown whether the backup has the change already."""
        return not self.primary.notes.are_under_way(key)

    def fetch(self, keys: Collection[bytes]) -> ReplySink | None:
        """Look up `keys`. Returns the session that waits for no further reply, or None (see Route.send)."""
        if self.rules.must_probe(self.primary):
            return self._probe(keys)
        return self._look_up_all(keys)

    def _probe(self, keys: Collection[bytes]) -> ReplySink | None:
        """Find out whether the primary has the commands that a fill needs, then look up `keys`."""
        self.left = 1
        self._keys = keys
        key = next(iter(keys))
        command, line = internal_commands.probe_meta(key)
        probe = new_request(command, key, line)
        probe.sink = self
        probe.connection_index = self.request.connection_index
        return self.primary.send(probe)

    def _look_up_all(self, keys: Collection[bytes]) -> ReplySink | None:
        self.left = len(keys)
        for key in keys:
            if self.rules.may_fill(self.primary, self.source.servers_of(key)):
                self.primary.start_fill(key, self)
        returns_life = self.primary.options.backend_protocol == "text"
        session = None
        try:
            for key in keys:
                session = self._look_up(key, *internal_commands.fetch(key, returns_life, self.returns_cas)) or session
        except Exception:
            self._end_fills()  # no other fetch could fill these keys before
            raise
        return session

    def _end_fills(self) -> None:
        for key in self.request.all_keys():
            self._end_fill(key, None)

    def _end_fill(self, key: bytes, item: Item | None) -> None:
        """The lookup of `key` has ended: fill the primary with `item`, unless it is None or the fill was voided."""
        if not self.primary.end_fill(key, self):
            return
        if item is None:
            self.primary.fill_written(key)
        else:
            self.fill_key(key, item)

    def _look_up(self, key: bytes, command: Command, line: bytes) -> ReplySink | None:
        lookup = new_request(command, key, line)
        lookup.sink = self
        lookup.connection_index = self.request.connection_index
        lookup.role = BACKUP
        return self.source.send(lookup)

    def on_reply(self, lookup: Request) -> ReplySink | None:
        reply = lookup.reply
        key = lookup.key
        if lookup.role == PRIMARY:  # the probe
            self.rules.note_reply(self.primary, reply)
            return self._look_up_all(self._keys)
        is_meta = lookup.command is META_GET
        if is_meta and reply.startswith((b"ERROR", b"CLIENT_ERROR")) and internal_commands.is_text(key):
            return self._look_up_as_before_1_6(key, reply)
        item = (parse_meta_get if is_meta else parse_get)(reply, self.primary.options.refill_ttl)
        if item is not None:
            self.on_item(key, item)
        self._end_fill(key, item)
        return self._count_lookup()

    def _look_up_as_before_1_6(self, key: bytes, error_line: bytes) -> ReplySink | None:
        """The server of `key` has no meta commands."""
        if self.rules.must_verify():
            for server in self.source.servers_of(key):
                self.rules.note_reply(server, error_line)
            self._end_fill(key, None)
        command = GETS if self.returns_cas else GET
        return self._look_up(key, command, b"%b%b\r\n" % (command.prefix, key))

    def on_failure(self, lookup: Request) -> ReplySink | None:
        if lookup.role == PRIMARY:  # the probe: without its reply nothing is filled
            return self._look_up_all(self._keys)
        self.in_doubt = True
        self._end_fill(lookup.key, None)
        return self._count_lookup()

    def _count_lookup(self) -> ReplySink | None:
        self.left -= 1
        return None if self.left else self.done()

    def fill_key(self, key: bytes, item: Item) -> None:
        """Fill the primary with `item`, which was looked up for `key`. Loop callback or greenlet."""
        rules = self.rules
        must_verify = rules.must_verify()
        connection_index = self.request.connection_index
        sink = VerifiedFill(self.primary, key, self.source, item, rules, connection_index) if must_verify else FillSink(self.primary, key)
        try:
            add = internal_commands.add_and_return_cas if must_verify else internal_commands.add_if_absent
            command, line = add(key, item.flags, item.life, item.data)
            write = new_request(command, key, line)
            write.sink = sink
            write.connection_index = connection_index
            self.fill_writes.send(write)
        except Exception:
            sink.end_fill()
            raise

    def on_item(self, key: bytes, item: Item) -> None:
        """A backup has `key`."""

    def done(self) -> ReplySink | None:
        """Every lookup has a reply or failed. Returns the session that waits for no further reply, or None."""
        raise NotImplementedError

    def on_internal_error(self, lookup: Request) -> ReplySink | None:
        """The request is abandoned. What was fetched for it does not fill the primary."""
        self._end_fills()
        return self.request.abandon()


class FetchForRead(Fetch):
    """For a get, gets, gat or gats to which `primary` replied without a value for some of the keys: fetches these.

    values      the VALUE blocks of the reply to the client, by key
    _on_primary  how many keys the primary had
    """

    __slots__ = ("values", "_on_primary")

    def start(self) -> ReplySink | None:
        """Returns the session that waits for no further reply, or None."""
        request = self.request
        self.values = blocks_by_key(request.reply)
        self._on_primary = len(self.values)
        keys = [key for key in dict.fromkeys(request.all_keys()) if key not in self.values and self.may_fetch(key)]
        if not keys:  # a key that is twice in the request has one value in the reply: a gat may have ended its life
            return request.complete()
        return self.fetch(keys)

    def on_item(self, key: bytes, item: Item) -> None:
        cas = b" %d" % item.cas if self.returns_cas else b""
        self.values[key] = [b"VALUE %b %d %d%b\r\n%b" % (key, item.flags, len(item.data) - 2, cas, item.data)]

    def done(self) -> ReplySink | None:
        request = self.request
        keys = request.all_keys()
        if not self.in_doubt:
            self.primary.record_misses(len(keys) - self._on_primary, len(self.values) - self._on_primary)
        request.reply = in_order(keys, self.values)
        request.has_value_offsets = False
        return request.complete()


class FetchForMetaGet(Fetch):
    """For an mg to which `primary` replied with a miss: sends the same mg to the backup, so that the client gets the flags that it asked for.

    If that is a hit, the client gets its reply, and a second lookup fetches what the primary is filled with.
    """

    __slots__ = ()

    def start(self) -> ReplySink | None:
        """Returns the session that waits for no further reply, or None."""
        request = self.request
        if not self.may_fetch(request.key):
            return request.complete()
        same = new_request(request.command, request.key, request.line)
        same.sink = self
        same.connection_index = request.connection_index
        same.role = BACKUP
        return self.source.send(same)

    def on_reply(self, lookup: Request) -> ReplySink | None:
        if self.left:  # the second lookup
            return Fetch.on_reply(self, lookup)
        request = self.request
        is_hit = lookup.reply.startswith((b"HD", b"VA"))
        self.primary.record_misses(1, int(is_hit))
        if is_hit:
            request.reply = lookup.reply
            self.fetch([request.key])
        return request.complete()

    def on_failure(self, lookup: Request) -> ReplySink | None:
        if self.left:
            return Fetch.on_failure(self, lookup)
        return self.request.complete()  # with the primary's miss

    def done(self) -> ReplySink | None:
        return None  # the client has its reply

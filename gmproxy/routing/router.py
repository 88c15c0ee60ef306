"""The way of a request from a client's session to the servers: the route that the pool has now (builder.py), and when it gets another."""

from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import ConfigError
from gmproxy.placement.builder import Placement
from gmproxy.placement.locators import Locator
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import BACKUP, PRIMARY, ReplySink, Request, Route, new_request
from gmproxy.routing.builder import Builder
from gmproxy.routing.fill import Adds
from gmproxy.routing.gather import FanOut
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import GuestNotes, note_late_changes


class Router(Route):
    """
    backends, backups        lists of Backend
    locator                  gmproxy.placement.locators.Locator: key -> index into the former
    counters                 RouteCounters
    undecided                changes whose outcome at the primary is not known (gmproxy.routing.replicate.UndecidedChanges)
    held                     changes that wait until their key was filled
    keeps_order              True if a client's requests must be kept in order (gmproxy.routing.ordering)
    sampler                  is shown some of the requests (gmproxy.monitoring.sampling.Sampler), or None
    """

    __slots__ = ("backends", "backups", "locator", "counters", "undecided", "held", "keeps_order", "sampler", "options", "_builder", "_place",
                 "_backup_locator", "_entry", "_filled", "_own", "_adds", "_to_skip")  # fmt: skip

    def __init__(self, options: Any) -> None:
        self.options = options
        self.backends: list[Backend] = []
        self.backups: list[Backend] = []
        self.locator: Locator | None = None
        self.keeps_order = False
        self.sampler: Any = None  # a gmproxy.monitoring.sampling.Sampler
        self._builder = Builder(options, self._release)
        self.counters = self._builder.counters
        self.undecided = self._builder.undecided
        self.held = self._builder.held
        self._place: Callable[..., Placement] | None = None
        self._backup_locator: Locator | None = None
        self._entry: Shard | None = None
        self._filled: Shard | None = None
        self._own: Shard | None = None
        self._adds: list[Adds] = []
        self._to_skip = 0

    # -- the servers, and their health

    def serve(
        self, backends: list[Backend], place: Callable[..., Placement], backups: list[Backend], backup_locator: Locator | None
    ) -> None:
        """Route to these servers from now on. `place(live=indexes or None)` is the Placement of keys on those that live.

        May be called again: requests in flight end where they are, and ask the backups that there were.
        """
        locator = place().locator  # first: if that cannot be made, all is as before
        self.backends = backends
        self.backups = backups
        self._place = place
        self._backup_locator = backup_locator if backups else None
        self.keeps_order = bool(backups)
        self._exchange(locator, None)
        if any(backend.health.ejected for backend in backends):
            self.health_changed()

    def _exchange(self, locator: Locator, notes: GuestNotes | None) -> None:
        """Replace the route. Fetches in flight, and those that requests on the old route will begin, are void: their key may belong to another
        server now, or their backup may no longer receive copies."""
        for backend in self.backends:
            backend.fetches.clear()
        for adds in self._adds:
            adds.replaced = True
        self.locator = locator
        self._entry, self._filled, self._own, self._adds = self._builder.compose(
            self.backends, locator, self.backups, self._backup_locator, notes
        )

    def health_changed(self) -> None:
        """A server was ejected or restored: from now on others may be asked for a key than before.

        A ring that cannot be built of the servers that are left (weights that come to nothing without the ejected one) changes nothing: the
        keys of the ejected server stay its own, as without auto_eject_hosts.
        """
        live = {index for index, backend in enumerate(self.backends) if not backend.health.ejected}
        if len(live) == len(self.backends):
            self._backups_stand_down()
        if not self.options.auto_eject_hosts:
            return
        for backend in self.backends:
            backend.guests_leave()
        if live:  # else, as twemproxy, go on with the last ring
            try:
                locator = self._place(live=live).locator
            except ConfigError as error:
                ejected = ",".join(backend.label for index, backend in enumerate(self.backends) if index not in live)
                self.backends[0].log.warning("ring not changed server=%s reason=%s", ejected, error)
                return
            away = len(live) < len(self.backends)
            self._exchange(locator, GuestNotes(self.backends, self._place().locator, self.options.failover_ttl) if away else None)
            for backend in self.backends:
                note_late_changes(backend, self.primary_of)

    def _backups_stand_down(self) -> None:
        """All primaries are there again."""
        for backup in self.backups:
            backup.guests_leave(or_all=True)
            if self.options.backup_writes == "off":
                note_late_changes(backup, lambda key: None)

    def was_flushed(self, backend: Backend) -> None:
        """All of `backend` was deleted because some of it was old. The same server may also be there in another part."""
        for other in self.backends + self.backups:
            if other is not backend and other.label == backend.label:
                other.health_checker.lost_keys("it was flushed")

    def primary_of(self, key: bytes) -> Backend:
        """The server that has `key` now."""
        return self.backends[self.locator.locate(key)]

    def backup_of(self, key: bytes) -> Backend:
        """Only where there are backups."""
        return self.backups[self._backup_locator.locate(key)]

    # -- requests

    def send(self, request: Request) -> ReplySink | None:
        """See Route; for the requests of clients that have a key."""
        if self.sampler is not None:
            self._sample(request)
        return self._entry.send(request)

    def send_to_own(self, request: Request) -> ReplySink | None:
        """The same for a request of another gmproxy, which has our primaries for backups. Were it copied to our backups, or looked up there, two
        proxies that are each other's backup would go on for ever."""
        request.role = BACKUP
        if self.sampler is not None:
            self._sample(request)
        return self._own.send(request)

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        return self._entry.explain(key, is_change)

    def _release(self, request: Request) -> ReplySink | None:
        """The key of `request`, which waited for that, was filled, if it could be. By now it may have another server."""
        return self._filled.send(request)

    def _sample(self, request: Request) -> None:
        """The sampler says how many requests to skip until the next that it wants to see."""
        self._to_skip -= 1
        if self._to_skip < 0:
            self._to_skip = self.sampler.sample_request(request)

    def flush_all(self, request: Request) -> None:
        """Ask every server and every backup."""
        servers = self.backends + self.backups
        fan_out = FanOut(request, len(servers))
        self.undecided.overtake_all()
        for backend in servers:
            backend.fetches.clear()
            part = new_request(request.command, b"", request.line)
            part.sink = fan_out
            part.connection_index = request.connection_index
            part.role = BACKUP if backend.is_backup else PRIMARY
            backend.send(part)

    # -- failures

    def reply_to_failure(self, request: Request) -> bytes:
        """What the client gets for `request`, which no server could answer (`ReplySink.on_failure`)."""
        if request.command.miss_reply is not None and self.options.on_get_error == "miss":
            self.counters.misses_for_errors += 1
            return request.reply or request.command.miss_reply
        return b"SERVER_ERROR %b %b\r\n" % (request.error.encode(), request.failed_server.encode())

    def abandon(self, request: Request) -> ReplySink | None:
        """gmproxy itself failed while it sent `request`: its sink gets INTERNAL_ERROR, once. Returns the session that waits for no more
        replies by this, if any. For a session's greenlet; never raises.

        Nobody knows which servers have made a change, or will: its keys are deleted on all of them.
        """
        session = request.abandon()
        self.held.discard(request)
        try:
            if request.command.is_write:
                for key in request.keys or (request.key,):
                    self._note_unknown(key)
        except Exception:
            internal_errors.record("router.abandoned")
        return session

    def _note_unknown(self, key: bytes) -> None:
        """Nobody knows what the servers have under `key`."""
        self.primary_of(key).missed_key(key)
        if self.backups:
            self.backup_of(key).missed_key(key)

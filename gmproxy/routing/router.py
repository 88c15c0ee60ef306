"""Sends each request of a pool by the routes that the pool has now (builder.py), and replaces the routes when servers are ejected or restored."""

from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import ConfigError
from gmproxy.placement.builder import Placement
from gmproxy.placement.locators import Locator
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.replica_commands import flush_delay
from gmproxy.protocol.request import BACKUP, PRIMARY, ReplySink, Request, Route, new_request
from gmproxy.routing.backup_first import hold_until_done
from gmproxy.routing.builder import Builder
from gmproxy.routing.change import NotedFlush
from gmproxy.routing.fill import Fill
from gmproxy.routing.gather import FanOut
from gmproxy.routing.sets import MAIN, ServerSet
from gmproxy.routing.shard import Shard, line_before_keys
from gmproxy.routing.stand_in import HomeRing, watch_late_writes
from gmproxy.shared.changes import ChangeNotes
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.ejections import Followers


class Router(Route):
    """All methods: loop callback or greenlet; none blocks.

    backends            the primaries (Backend)
    sets                the ServerSets: the main set, and the backup or the replicas
    gutter              the ServerSet that stands in for servers that are down, or None
    backups             the servers of all sets but the main one, and of the gutter
    locator             key -> index into `backends`; the ring of the servers that are not ejected, with auto_eject_hosts
    counters            RouteCounters
    undecided           conditional writes to which the primary has not replied (gmproxy.routing.replicate.UndecidedWrites)
    held                writes that are held until their key was filled, or the backup has deleted it
    keeps_order         True if sessions must keep requests in order (gmproxy.routing.ordering)
    sampler             gets some of the requests (gmproxy.monitoring.sampling.Sampler); None: disabled
    """

    __slots__ = ("backends", "sets", "gutter", "backups", "locator", "counters", "undecided", "held", "keeps_order", "sampler", "options",
                 "_builder", "_place", "_copies", "_entry", "_after_fill", "_own", "_fills", "_to_skip", "_notes", "_stamp",
                 "_followed", "_journal", "_followers", "_ejected")  # fmt: skip

    def __init__(self, options: Any) -> None:
        self.options = options
        self.backends: list[Backend] = []
        self.sets: list[ServerSet] = []
        self.gutter: ServerSet | None = None
        self.backups: list[Backend] = []
        self.locator: Locator | None = None
        self.keeps_order = False
        self.sampler: Any = None  # a gmproxy.monitoring.sampling.Sampler
        self._builder = Builder(options, self._release)
        self.counters = self._builder.counters
        self.undecided = self._builder.undecided
        self.held = self._builder.held
        self._place: Callable[..., Placement] | None = None
        self._copies: list[ServerSet] = []  # the sets but the main one that are enabled
        self._entry: Route | None = None
        self._after_fill: Shard | None = None
        self._own: Shard | None = None
        self._fills: list[Fill] = []
        self._to_skip = 0  # requests until the next sample
        self._notes: ChangeNotes | None = None  # in a pool with backups
        self._stamp: Any = None  # of the ejections of all workers (gmproxy.shared.ejections), in a pool where these matter
        self._followers: Followers | None = None
        self._journal: Any = None
        self._ejected: set[Backend] = set()  # with a gutter
        self._followed = 0  # the stamp whose ejections this worker has followed

    # -- the servers, and their health

    def serve(self, main: ServerSet, place: Callable[..., Placement], copies: list[ServerSet], gutter: ServerSet | None = None) -> None:
        """Send requests to the servers of these sets from now on. `place(live=...)` returns the Placement of keys on the servers of `main` with the
        indexes `live`. `copies`: the backup or the replicas; `gutter`: stands in for servers that are down.

        May be called again: requests in flight end on their routes, with the servers of that time.
        """
        self.backends = main.backends
        self.sets = [main, *copies]
        self.gutter = gutter
        self._copies = [one for one in copies if one.enabled]
        others = copies if gutter is None else [*copies, gutter]
        self.backups = [backend for one in others for backend in one.backends]
        self._place = place
        self.keeps_order = bool(others)
        self._notes = self.backends[0].notes if others else None
        self._ejected = {backend for backend in self.backends + self.backups if backend.health.ejected}
        self._replace_routes(main.locator, None)
        if any(backend.health.ejected for backend in self.backends):
            self.health_changed()

    def sets_changed(self) -> None:
        """A replica was switched off or on (ServerSet.enabled): replace the routes."""
        self._copies = [one for one in self.sets[1:] if one.enabled]
        self._replace_routes(self.locator, None)

    def share(self, column: SharedColumn, pool: str, ejections: bool) -> None:
        """Share with the other workers by `column` what concerns the pool with the name `pool`; `ejections`: True if servers are ejected and restored
        together with them. May block for gmproxy.shared.memory.LOCK_PATIENCE."""
        self._journal = column.journal
        self._stamp = column.memory.stamp if ejections else None
        self._followers = column.followers_of(pool) if ejections else None
        for backend in self.backends + self.backups:
            backend.followers = self._followers
        self._followed = 0
        self._follow_ejections()

    def release_held_writes(self, now: float) -> None:
        """Send the writes that need not wait for other workers any longer. `now`: monotonic seconds. Loop callback only. Never raises."""
        self._builder.held_writes.release_due(now)

    def write_journal(self) -> None:
        """Write the pending invalidations that were noted since the last call. To be called before the replies to clients are sent."""
        if self._journal is not None and self._journal.unwritten:
            self._journal.write()
            self.backends[0].notes.journal_written()

    def follow_ejections(self) -> None:
        """Eject and restore the servers that other workers have ejected or restored since the last call."""
        if self._stamp is not None and self._stamp[0] != self._followed:
            self._follow_ejections()

    def _follow_ejections(self) -> None:
        if self._stamp is None:
            return
        stamp = self._stamp[0]
        for backend in self.backends + self.backups:
            backend.follow_ejections()
        self._followed = stamp
        if self._followers is not None:
            self._followers.publish(stamp)

    def _replace_routes(self, locator: Locator, home_ring: HomeRing | None) -> None:
        """Also voids all fills: those in flight and those that requests on the old routes may still start. Their key may have another server now, or
        their backup may no longer receive copies."""
        for backend in self.backends + self.backups:
            backend.void_all_fills()
        for fill in self._fills:
            fill.fill_writes.replaced = True
        self.locator = locator
        main = ServerSet(0, MAIN, self.sets[0].zone, self.backends, locator)
        self._entry, self._after_fill, self._own, self._fills = self._builder.compose(main, self._copies, home_ring, self.gutter)

    def health_changed(self) -> None:
        """A server was ejected or restored: replace the ring and the routes, with auto_eject_hosts.

        If no ring can be built of the servers that are left (the sum of their weights is 0), nothing changes: the keys of the ejected server stay
        there, as without auto_eject_hosts.
        """
        live = {index for index, backend in enumerate(self.backends) if not backend.health.ejected}
        if self.gutter is not None:
            self._drop_stand_in_keys_of_gutter(self.gutter)
        elif len(live) == len(self.backends):
            self._drop_stand_in_keys_of_backups()
        if not self.options.auto_eject_hosts:
            return
        for backend in self.backends:
            backend.drop_stand_in_keys()
        if live:  # else keep the last ring, as twemproxy does
            try:
                locator = self._place(live=live).locator
            except ConfigError as error:
                ejected = ",".join(backend.label for index, backend in enumerate(self.backends) if index not in live)
                self.backends[0].log.warning("ring not changed server=%s reason=%s", ejected, error)
                return
            some_ejected = len(live) < len(self.backends)
            home_ring = HomeRing(self.backends, self._place().locator, self.options.failover_ttl) if some_ejected else None
            self._replace_routes(locator, home_ring)
            for backend in self.backends:
                watch_late_writes(backend, self.primary_of)

    def _drop_stand_in_keys_of_backups(self) -> None:
        """All primaries are restored."""
        for backup in self.backups:
            backup.drop_stand_in_keys()
            if self.options.backup_writes == "off":
                watch_late_writes(backup, lambda key: None)

    def _drop_stand_in_keys_of_gutter(self, gutter: ServerSet) -> None:
        """If a server was restored. It has some of the keys again, so what the gutter has of them is stale as soon as they are written."""
        ejected = {backend for backend in self.backends + self.backups if backend.health.ejected}
        restored, self._ejected = self._ejected - ejected, ejected
        for backend in gutter.backends if restored else ():
            backend.drop_stand_in_keys()
            watch_late_writes(backend, lambda key: None)

    def was_flushed(self, backend: Backend) -> None:
        """`backend` was flushed because some of its keys may have been stale. The same server may also be in the pool as another Backend: that lost
        its keys too."""
        for other in self.backends + self.backups:
            if other is not backend and other.label == backend.label:
                other.health_checker.lost_keys("it was flushed")

    def primary_of(self, key: bytes) -> Backend:
        """The server that has `key` now."""
        return self.backends[self.locator.locate(key)]

    def fill_of(self, backend: Backend) -> Fill | None:
        """The Fill of a server; None if it is not filled from other sets: it is a backup, its set is switched off, or there is no other set."""
        return next((fill for fill in self._fills if fill.server is backend and fill.source.shards), None)

    def copies_of(self, key: bytes) -> list[Backend]:
        """The servers, besides the primary, that have copies of `key`: one in each further set that is enabled."""
        return [one.server_of(key) for one in self._copies]

    def servers_of(self, key: bytes) -> list[Backend]:
        """All servers that may have `key`: its primary, that in the ring of all servers, and those with copies."""
        stand_ins = [] if self.gutter is None else [self.gutter.server_of(key)]
        return list({self.primary_of(key), self.sets[0].server_of(key), *self.copies_of(key), *stand_ins})

    # -- requests

    def send(self, request: Request) -> ReplySink | None:
        """See Route. For a client's request that has a key."""
        if self.sampler is not None:
            self._sample(request)
        if self._stamp is not None:
            self.follow_ejections()
        return self._entry.send(request)

    def send_to_own(self, request: Request) -> ReplySink | None:
        """As `send`, for the request of another gmproxy that has our primaries as its backups. It is neither copied to our backups nor looked up
        there: between two proxies that are each other's backup, that would never end."""
        request.role = BACKUP
        if self.sampler is not None:
            self._sample(request)
        if self._stamp is not None:
            self.follow_ejections()
        return self._own.send(request)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return self._entry.explain(key, is_write)

    def _release(self, request: Request) -> ReplySink | None:
        """What a held write waited for has ended. Its key may have another server by now."""
        if request.keys is not None:
            request.line = line_before_keys(request)
        return self._after_fill.send(request)

    def _sample(self, request: Request) -> None:
        self._to_skip -= 1
        if self._to_skip < 0:
            self._to_skip = self.sampler.sample_request(request)

    def flush_all(self, request: Request) -> None:
        """Send `request`, a flush_all, to every primary and every backup; where other proxies write to the same servers, to the backups first
        (backup_first.py)."""
        self.follow_ejections()
        delay = flush_delay(request)
        if delay:
            self._builder.fill_rules.flush_sent(delay, self.backends[0])
        if self._must_wait_to_flush():
            self._builder.held_writes.hold(request, self._must_wait_to_flush, self._flush_all, self._flush_all_late)
        else:
            self._flush_all(request)

    def _must_wait_to_flush(self) -> bool:
        """True if another worker fills a primary."""
        return self._notes is not None and self._notes.any_fills_are_elsewhere()

    def _flush_all_late(self, request: Request) -> ReplySink | None:
        """A fill may still arrive behind a flush_all: the primaries are flushed again. Returns as `_flush_all`."""
        for backend in self.backends:
            backend.missed_everything()
        return self._flush_all(request)

    def _flush_all(self, request: Request) -> ReplySink | None:
        """Returns the session that waits for no further reply, or None."""
        if self._notes is not None:
            flush = NotedFlush.__new__(NotedFlush)
            flush.begin(request, self._notes)
        is_verified = self._builder.fill_rules.must_verify() and not flush_delay(request)
        first = self._enabled_copies() if is_verified else []
        return hold_until_done(request, [(backup, b"", request.command, request.line) for backup in first], self.held, self._flush)

    def _flush(self, request: Request) -> ReplySink | None:
        """Returns the session that waits for no further reply, or None."""
        servers = self.backends + self._enabled_copies()
        fan_out = FanOut(request, len(servers))
        self.undecided.supersede_all()
        session = None
        for backend in servers:
            backend.void_all_fills()
            part = new_request(request.command, b"", request.line)
            part.sink = fan_out
            part.connection_index = request.connection_index
            part.role = BACKUP if backend.is_backup else PRIMARY
            session = backend.send(part) or session
        return session

    def _enabled_copies(self) -> list[Backend]:
        """The servers of the copies that are enabled, and those of the gutter."""
        return [backend for backend in self.backups if not self._is_switched_off(backend)]

    def _is_switched_off(self, backend: Backend) -> bool:
        return any(backend in one.backends for one in self.sets if not one.enabled)

    # -- failures

    def reply_to_failure(self, request: Request) -> bytes:
        """What the client gets for `request`, which failed (`ReplySink.on_failure`): a miss or an error line."""
        if request.command.miss_reply is not None and self.options.on_get_error == "miss":
            self.counters.misses_for_errors += 1
            miss: bytes = request.reply or request.command.miss_reply
            return miss
        return b"SERVER_ERROR %b %b\r\n" % (request.error.encode(), request.failed_server.encode())

    def abandon(self, request: Request) -> ReplySink | None:
        """An internal error was raised while `request` was sent: its sink gets INTERNAL_ERROR, once. Returns the session that waits for no further
        reply, or None. Never raises.

        It is unknown which servers have made a write, or will: its keys are deleted on all of them.
        """
        session = request.abandon()
        self._builder.held_writes.forget(request)
        try:
            if request.command.is_write:
                for key in request.all_keys():
                    self._invalidate_on_all(key)
        except Exception:
            internal_errors.record("router.abandon")
        return session

    def _invalidate_on_all(self, key: bytes) -> None:
        for backend in self.servers_of(key):
            backend.missed_key(key)

"""From a request to the servers it concerns, and from their failures to an answer.

    get, set, ...       the primary of the key
    several keys        one grouped request for each server, asked at the same time, joined to one answer (multiget.py)
    any change          also goes to the key's backup (replicate.py)
    primary failed      the backup answers: a read is asked again there, a change was already copied to it
    primary's miss      while it proves nothing: the backup answers and the primary is refilled (fill.py)
    primary ejected     with auto_eject_hosts the others share its keys (failover.py)
    flush_all           every server

A request that no server could answer is a miss if it only reads, else SERVER_ERROR <reason> <server>. Whatever a server may have
missed is noted (backend/missed_writes.py).
"""

from collections.abc import Callable
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import ConfigError
from gmproxy.placement.builder import Placement
from gmproxy.placement.locators import Locator
from gmproxy.protocol import cas_numbers, replica_commands
from gmproxy.protocol.key_list import KeyPartition
from gmproxy.protocol.request import BACKUP, COPY, PRIMARY, UNREADY, ReplySink, Request, new_request
from gmproxy.routing.failover import Detour, follow_stragglers
from gmproxy.routing.fill import Fetch, MetaRefill, Refill
from gmproxy.routing.multiget import GATHERER, FanOut
from gmproxy.routing.replicate import Copies

#: A gat is sent in lines of at most so many bytes of keys.
LONGEST_GAT = 1900


def some_may_be_old(servers: list[Backend]) -> bool:
    """True if one of them may have missed a change."""
    for backend in servers:
        if backend.has_old():
            return True
    return False


class Router:
    """
    backends, backups        lists of Backend
    locator                  gmproxy.placement.locators.Locator: key -> index into the former
    copies                   what the backups hear of changes (Copies), while `copying`
    detour                   while some servers are ejected and others have their keys (Detour); else None
    unready                  requests that wait for their key to be refilled
    sampler                  is shown some of the requests (gmproxy.monitoring.sampling.Sampler), or None
    fragments                requests that were made of those for several keys
    """

    __slots__ = ("backends", "backups", "locator", "copies", "copying", "detour", "unready", "_place", "options",
                 "misses_for_errors", "sampler", "fragments", "_to_skip")  # fmt: skip

    def __init__(self, options: Any) -> None:
        self.options = options
        self.backends: list[Backend] = []
        self.backups: list[Backend] = []
        self.locator: Locator | None = None
        self.copies = Copies(self)
        self.copying = False
        self.detour: Detour | None = None
        self.unready = 0
        self._place: Callable[..., Placement] | None = None
        self.misses_for_errors = 0
        self.sampler: Any = None  # a gmproxy.monitoring.sampling.Sampler
        self.fragments = 0
        self._to_skip = 0

    def serve(
        self, backends: list[Backend], place: Callable[..., Placement], backups: list[Backend], backup_locator: Locator | None
    ) -> None:
        """Route to these servers from now on. `place(live=indexes or None)` is the Placement of keys on those that live.

        May be called again: requests in flight end where they are, and ask the last backups if there are none any more.
        """
        locator = place().locator  # first: if that cannot be made, all is as before
        self.backends = backends
        self.backups = backups
        if backups:
            self.copies.serve(backups, backup_locator, self.options.backup_writes == "sync")
        self.copying = bool(backups) and self.options.backup_writes != "off"
        self.detour = None
        self._place = place
        self.locator = locator
        if any(backend.health.ejected for backend in backends):
            self.health_changed()

    def health_changed(self) -> None:
        """A server was ejected or restored: from now on others may be asked for a key than before.

        A ring that cannot be built of the servers that are left (weights that come to nothing without the ejected one) changes nothing: the
        keys of the ejected server stay its own, as without auto_eject_hosts.
        """
        live = {index for index, backend in enumerate(self.backends) if not backend.health.ejected}
        if len(live) == len(self.backends):
            for backup in self.backups:
                backup.guests_leave(or_all=True)
                if not self.copying:
                    follow_stragglers(backup, lambda key: None)
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
            self.locator = locator
            away = len(live) < len(self.backends)
            self.detour = Detour(self.backends, self._place().locator, self.options.failover_ttl) if away else None
            for backend in self.backends:
                follow_stragglers(backend, self.primary_of)

    def was_flushed(self, backend: Backend) -> None:
        """All of `backend` was deleted because some of it was old. The same server may also be there in another part."""
        for other in self.backends + self.backups:
            if other is not backend and other.label == backend.label:
                other.health_checker.lost_keys("it was flushed")

    # -- requests

    def route(self, request: Request) -> None:
        """Send `request` on its way. Its owner gets the answer once it is there, perhaps before this returns.

        Called from a session's greenlet; never waits. The caller abandons the request if it raises (see `on_internal_error`).
        """
        if self.sampler is not None:
            self._sample(request)
        if request.keys is not None:
            if request.command.is_write:
                self._touch_several(request)
            self._split(request, self.backends, self.locator, request.role)
            return
        backend = self.backends[self.locator.locate(request.key)]
        if not request.command.is_write:
            backend.submit(request)
        elif request.command.reads_old_value and backend.ask_backup_on_miss and request.role == PRIMARY:
            self.unready += 1
            request.role = UNREADY
            Fetch(request, backend, self).ask()
        else:
            self._change(request, backend)

    def _sample(self, request: Request) -> None:
        """The sampler says how many requests to skip until the next that it wants to see."""
        self._to_skip -= 1
        if self._to_skip < 0:
            self._to_skip = self.sampler.sample_request(request)

    def _change(self, request: Request, backend: Backend) -> ReplySink | None:
        """Everybody who has to know of a change hears of it, then the server."""
        if backend.fetches and replica_commands.changes_value(request):
            backend.fetches.pop(request.key, None)  # what is being fetched is about to be old
        if self.detour is not None:
            self.detour.take(request, request.key, backend)
        if self.copying and request.role == PRIMARY:
            self.copies.mirror_write(request, backend)
        session = backend.submit(request)
        if self._may_leave_guests(request):
            self.backup_of(request.key).guest_leaves(request.key)
        return session

    def _may_leave_guests(self, request: Request) -> bool:
        """True if a change was sent to the primary alone, while the backup may have the key from when it stood in."""
        return not self.copying and bool(self.backups) and request.role == PRIMARY

    def ready(self, request: Request) -> ReplySink | None:
        """The key of `request` was refilled, if it could be. Returns the session that is ready by this, if any."""
        if request.role != UNREADY:
            return None  # it was abandoned
        self.unready -= 1
        request.role = PRIMARY
        return self._change(request, self.primary_of(request.key))  # perhaps another than when it came

    def never_ready(self, request: Request) -> None:
        """The key of `request` is not refilled, and the request abandoned."""
        if request.role == UNREADY:
            self.unready -= 1
            request.role = PRIMARY

    def _touch_several(self, request: Request) -> None:
        for key in request.keys:
            backend = self.backends[self.locator.locate(key)]
            if backend.fetches and replica_commands.changes_value(request):
                backend.fetches.pop(key, None)
            if self.detour is not None:
                self.detour.take(request, key, backend)
            if request.role != PRIMARY:
                continue
            if self.copying:
                self.copies.send_touch(request, key, backend)
            elif self.backups:
                self.backup_of(key).guest_leaves(key)

    def fill(self, request: Request, backend: Backend) -> None:
        """Give `backend` what the backups have of a key: `request` is an add."""
        if self.primary_of(request.key) is not backend:
            return  # not any more
        if self.detour is not None:
            self.detour.fill(request, backend)
        backend.counters.fills += 1
        backend.submit(request)

    def flush_all(self, request: Request) -> None:
        """Ask every server and every backup."""
        servers = self.backends + self.backups
        fan_out = FanOut(request, len(servers))
        self.copies.overtake_all()
        for backend in servers:
            backend.fetches.clear()
            part = new_request(request.command, b"", request.line)
            part.sink = fan_out
            part.connection_index = request.connection_index
            part.role = BACKUP  # there is nobody else to ask
            backend.submit(part)

    def _split(self, request: Request, servers: list[Backend], locator: Locator, stage: int) -> ReplySink | None:
        """Ask each of `servers` for its keys of `request`. Returns the session that is ready by this, if any."""
        if request.command.is_write or some_may_be_old(servers):
            division = self._divide_with_care(request, servers, locator)
        else:
            keys = request.keys
            division = keys.partition(locator, len(servers))
        self.fragments += len(division.owners)
        gather = GATHERER.gather(request, division)
        for keys in division.parts:
            part = new_request(request.command, request.key, keys.command_line(request.line))
            part.keys = keys
            part.sink = gather
            part.connection_index = request.connection_index
            part.role = stage
            gather.parts.append(part)
        session = None
        parts = gather.parts  # the gather drops them once it has all answers, perhaps before we are done
        for number in range(len(parts)):
            backend = servers[division.owners[number]]
            session = backend.submit(parts[number]) or session
        return session

    def _divide_with_care(self, request: Request, servers: list[Backend], locator: Locator) -> KeyPartition:
        """The keys that a server will refuse, since it has missed a change of them, go apart. And memcached gives up a long
        line that is no get."""
        changes = request.command.is_write
        groups = {}  # (server, whether it will refuse) -> the group that its next key joins
        owners = []
        order = []
        room = 0
        for key in request.keys:
            index = locator.locate(key)
            backend = servers[index]
            place = index, backend.may_be_old(key, changes)
            room += len(key) + 1
            if room > LONGEST_GAT and changes:
                room = len(key) + 1
                groups = {}
            if place not in groups:
                groups[place] = len(owners)
                owners.append(index)
            order.append(groups[place])
        return KeyPartition(request.keys, order, owners)

    def primary_of(self, key: bytes) -> Backend:
        return self.backends[self.locator.locate(key)]

    # -- backups

    def backup_of(self, key: bytes) -> Backend:
        return self.copies.backup_of(key)

    def missed(self, request: Request, backend: Backend) -> ReplySink | None:
        """The primary has no value for a key of `request`, but that proves nothing: ask the backup."""
        if request.role != PRIMARY:
            return request.complete()
        if request.command.is_meta:
            return MetaRefill(request, backend, self).ask()
        return Refill(request, backend, self).ask()

    # -- failures

    def failed(self, request: Request, backend: Backend, reason: str) -> ReplySink | None:
        """`backend` could not answer. Returns the session that waits for no more replies by this, if any."""
        request.error = reason
        backend.counters.errors[reason] += 1
        if request.command.is_write or request.command.kind == "flush":
            backend.missed_change(request)
        if request.role == COPY:
            return self.copies.copy_failed(request, backend)
        if request.role == PRIMARY and self.backups:
            if request.mirror is not None:
                return self.copies.primary_failed(request, backend)
            return self._ask_backup(request, backend)
        return self.give_up(request, backend, reason)

    def _ask_backup(self, request: Request, primary: Backend) -> ReplySink | None:
        if request.keys is not None:
            question = new_request(request.command, request.key, prefix_of(request))
            question.keys = request.keys
            question.sink = Heir(request)
            question.connection_index = request.connection_index
            return self._split(question, self.copies.backups, self.copies.locator, BACKUP)
        request.role = BACKUP
        request.retried = False
        backup = self.backup_of(request.key)
        if backup.label == primary.label and not request.command.idempotent:
            return self.give_up(request, primary, request.error)  # there it may have been made already
        if request.command.is_write and not self.copying:
            backup.has_guest(request.key)
        if request.command.conditional:
            request.line = cas_numbers.line_for(request, cas_numbers.BACKUP_SET)
        return backup.submit(request)

    def give_up(self, request: Request, backend: Backend, reason: str) -> ReplySink | None:
        """Nobody can answer `request`; `backend` was the last that could not."""
        if request.command.miss_reply is not None and self.options.on_get_error == "miss":
            self.misses_for_errors += 1
            request.reply = request.command.miss_reply
            request.has_value_offsets = False
        else:
            request.reply = b"SERVER_ERROR %b %b\r\n" % (reason.encode(), backend.label.encode())
        return request.complete()

    # -- internal errors

    def on_internal_error(self, request: Request) -> ReplySink | None:
        """gmproxy itself failed on `request`: its owner gets INTERNAL_ERROR, once. Returns the session that waits for no more
        replies by this, if any. May be called from a callback of the loop or a session's greenlet; never raises.

        Nobody knows which servers have made a change, or will: its keys are deleted on all of them.
        """
        mirror = request.mirror
        request.mirror = None
        session = request.abandon()
        if mirror is not None:
            mirror.mirror = None
            if request.role == COPY:
                session = mirror.abandon() or session  # a change that waits for its copy
        self.never_ready(request)
        try:
            if request.command.is_write:
                for key in request.keys or (request.key,):
                    self._is_unknown(key)
        except Exception:
            internal_errors.record("router.abandoned")
        return session

    def _is_unknown(self, key: bytes) -> None:
        """Nobody knows what the servers have under `key`."""
        self.primary_of(key).missed_key(key)
        if self.backups:
            self.backup_of(key).missed_key(key)


def prefix_of(part: Request) -> bytes:
    """What stands in the line of `part`, a request for several keys, before the first of them."""
    words = 2 if part.command.is_write else 1  # gat EXPTIME
    return b" ".join(part.line.split(b" ", words)[:words]) + b" "


class Heir(ReplySink):
    """Hands the answer of one request to another that could not get its own."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def on_reply(self, other: Request) -> ReplySink | None:
        request = self.request
        self.request = None  # it may refer to `other`, and that to this object
        request.reply = other.reply
        request.has_value_offsets = False
        return request.complete()

    def on_internal_error(self, other: Request) -> ReplySink | None:
        request = self.request
        self.request = None
        return request.abandon() if request is not None else None

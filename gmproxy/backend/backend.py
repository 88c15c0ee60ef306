"""One memcached server: its links, its health, what it missed, and what was counted about it."""

import logging
from time import monotonic
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend import connect
from gmproxy.backend.connection import BackendConnection
from gmproxy.backend.control_connection import introduce_proxy
from gmproxy.backend.counters import BackendCounters
from gmproxy.backend.half_closed import HalfClosedConnections
from gmproxy.backend.health import UP, WARMING, Health
from gmproxy.backend.health_check import HealthChecker
from gmproxy.backend.latency import Meter
from gmproxy.backend.missed_writes import MissedWrites
from gmproxy.errors import CLOSED, CONNECTING, EJECTED, OVERLOAD, PROTOCOL, RESET, TIMEOUT, BackendError, LocalError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request
from gmproxy.system.clock import running

#: Requests that may wait on one link, and bytes the kernel has not taken from it, beside one value of whatever size; beyond them
#: a request is refused.
MAX_WAITING = 16384
MAX_BACKLOG = 64 * 1024 * 1024

#: Seconds between two log lines about connections that could not be made through no fault of the server: there may be one for
#: each request.
LOCAL_TROUBLE_EVERY = 10.0


class Backend(MissedWrites):
    """
    server        where it is (gmproxy.placement.server_spec.Server)
    observer      hears when it is ejected or restored (`health_changed()`), and when it was flushed (`was_flushed(backend)`)
    backed        True for a primary that has backups
    is_backup     True for a backup
    connections   by index; None where none is open
    health        gmproxy.backend.health.Health
    health_checker   probes it, finds out which process it is, and starts its recovery
    half_closed   connections given up on which it may still make changes
    ask_backup_on_miss   True while a miss of this server proves nothing
    counters      gmproxy.backend.counters.BackendCounters
    meter, bytes_sent, bytes_received   see gmproxy.backend.connection.ConnectionOwner; for what it missed, see MissedWrites
    """

    __slots__ = ("server", "options", "observer", "backed", "is_backup", "connections", "health", "health_checker", "half_closed",
                 "ask_backup_on_miss", "meter", "bytes_sent", "bytes_received", "counters", "_connection_count",
                 "_max_backlog", "_troubled", "_last_reason", "_is_proxy", "_loop", "_unreported", "_report_at")  # fmt: skip

    def __init__(
        self,
        server: Server,
        options: Any,
        observer: Any,
        log: logging.Logger | logging.LoggerAdapter,
        backed: bool = False,
        is_backup: bool = False,
    ) -> None:
        super().__init__(server.label, log, options.journal_size)
        self.server = server
        self.options = options
        self.observer = observer
        self.backed = backed
        self.is_backup = is_backup
        self.connections: list[BackendConnection | None] = [None] * options.lanes
        self._connection_count = options.lanes
        self.health = Health(options.server_failure_limit, options.server_retry_timeout, options.warming_time)
        self.half_closed = HalfClosedConnections(self.log_name)
        self.ask_backup_on_miss = False
        self.meter: Meter | None = None
        self.bytes_sent = 0
        self.bytes_received = 0
        self.counters = BackendCounters()
        self._max_backlog = MAX_BACKLOG + options.max_item_size
        self._troubled = False  # failed lately: tell the health of successes
        self._last_reason = EJECTED
        self._is_proxy = False  # a backup that has said so
        self._unreported = 0  # requests that failed for a reason that says nothing about the server, since the log last had it
        self._report_at = 0.0
        self._loop = gevent.get_hub().loop
        self.health_checker = HealthChecker(self)

    def __repr__(self) -> str:
        connections = sum(connection is not None for connection in self.connections)
        return f"<Backend {self.label} {self.health.state(monotonic())} links={connections}>"

    # -- requests

    def send(self, request: Request) -> ReplySink | None:
        """See Route. The sink may hear at once that this server cannot be asked."""
        if self.fetches and request.command.is_write:
            self.void_fills(request)
        if (self.behind or self._states is not None) and self._may_read_stale(request):
            return self._give_up(request, self._last_reason)
        connection_index = request.connection_index % self._connection_count
        connection = self.connections[connection_index]
        if connection is None or connection.closed:  # closed: link_closed has failed, and nobody else may wait on it
            if self.health.ejected:
                return self._give_up(request, EJECTED)
            connection = self._open_link(connection_index)
        elif connection.waiting.count >= MAX_WAITING or connection.backlog() > self._max_backlog:
            self.counters.failures += 1
            return self._give_up(request, OVERLOAD)
        connection.submit(request)
        return None

    def explain(self, key: bytes, is_change: bool) -> list[Hop]:
        if self.may_be_old(key, is_change):
            return [Hop("server", self.label, "has missed a change of the key, which is deleted there first")]
        state = self.health.state(monotonic())
        return [Hop("server", self.label, UP if state == WARMING and not self.ask_backup_on_miss else state)]

    def request_answered(self, request: Request, found: int) -> ReplySink | None:
        """A reply has come for `request`, with `found` values. Returns the session that waits for no more replies, if any."""
        counters = self.counters
        counters.count_reply(request.command)
        if self._troubled:
            self.health.succeeded()
            self._troubled = False
        if request.command.is_read:
            asked = 1 if request.keys is None else len(request.keys)
            counters.keys_asked += asked
            counters.values_found += found
            request.values_found = found
            if request.command.is_write:
                counters.count_touches(request.command, asked, found)
        else:
            counters.count_write(request)
        return request.complete()

    def request_failed(self, request: Request, reason: str, started: bool, may_repeat: bool) -> ReplySink | None:
        """A link failed before it had the reply to `request`. `started`: the server may have got something of it; `may_repeat`: if it is a
        request that may be repeated, then so may this one. Returns the session that waits for no more replies by this, if any.

        A request of which the server got nothing, or that may be repeated, is sent once more over a new link: it may only have met a
        connection that died while nobody used it.
        """
        if not request.retried and reason in (CLOSED, RESET):
            if not started or (request.command.idempotent and may_repeat):
                request.retried = True
                return self.send(request)
        return self._give_up(request, reason)

    def _give_up(self, request: Request, reason: str) -> ReplySink | None:
        """This server cannot answer. A change is noted: it may have been made, or not."""
        self.counters.errors[reason] += 1
        if request.command.is_write or request.command.kind == "flush":
            self.missed_change(request)
        return request.fail(reason, self.label)

    def request_abandoned(self, request: Request) -> ReplySink | None:
        """The same after an exception in gmproxy itself: the client gets INTERNAL_ERROR. Never raises."""
        session = request.abandon()
        try:
            if request.command.is_write or request.command.kind == "flush":
                self.missed_change(request)
        except Exception:
            internal_errors.record("backend.abandoned", self.log_name)
        return session

    def lacked(self, asked: int, found: int) -> None:
        """Of `asked` keys that this server did not have, its backups had `found`."""
        self.health.lacked(monotonic(), asked, found)

    # -- links

    def preconnect(self) -> None:
        if self.connections[0] is None:
            self._open_link(0)

    def _open_link(self, connection_index: int) -> BackendConnection:
        connection = BackendConnection(self, connection_index, self._loop, self.options.backend_protocol)
        self.connections[connection_index] = connection
        gevent.spawn(self._connect, connection)
        return connection

    def _connect(self, connection: BackendConnection) -> None:
        """In a greenlet of its own: connect `connection`, or have it fail."""
        sock = None
        try:
            options = self.options
            # Who waits for this link waits no longer than `timeout`; then it is to be known why.
            timeout = min(options.connect_timeout, options.timeout)
            sock = connect.connect(self.server, timeout, options.tcpkeepalive, options.server_auth_file, connection.protocol)
            if self.is_backup and introduce_proxy(sock, options) and not self._is_proxy:
                self._is_proxy = True
                self.log.warning("backup is a gmproxy, which passes no copies on to its own backups server=%s", self.label)
            if connection.closed:
                sock.close()
                return
            connection.attach(sock)
            self.counters.connects += 1
            self.log.debug("link opened server=%s lane=%d", self.label, connection.connection_index)
            self.health_checker.connection_opened()
        except BackendError as error:
            if sock is not None:
                sock.close()
            self._loop.run_callback(connection.fail, error.reason, error.detail, not isinstance(error, LocalError))
        except Exception:
            internal_errors.record("backend.connect", self.log_name)
            if sock is not None and not connection.attached():
                sock.close()
            self._loop.run_callback(connection.fail, CONNECTING, "internal error", False)

    def connection_closed(self, connection: BackendConnection) -> None:
        self.log.debug("link closed server=%s lane=%d", self.label, connection.connection_index)
        if self.connections[connection.connection_index] is connection:
            self.connections[connection.connection_index] = None
        self.health_checker.connection_closed()

    def connection_failed(self, connection: BackendConnection, reason: str, detail: str, lost: int, fault: bool) -> None:
        """`connection` is closed and `lost` requests on it have no reply. A connection that ended idle is no failure. `fault`: False if the
        server is not to blame."""
        if not lost:
            return
        self.counters.count_failures(lost, reason, detail)
        if not fault:
            self._report_local_trouble(reason, detail, lost)
            return
        self._troubled = True
        self._last_reason = reason
        now = monotonic()
        if reason == PROTOCOL:  # by what a client asked, perhaps: the server's own answer to a probe is what counts
            self.log.warning("backend failed server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, lost)
            self.health.suspect(now)
            return
        first = self.health.failures == 0
        # Requests that wait in vain are as many failures. A connection that breaks is one, however many it takes with it.
        ejected = self.health.failed(now, lost if reason in (TIMEOUT, CONNECTING) else 1, reason == TIMEOUT)
        if first or ejected:
            self.log.warning("backend failed server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, lost)
        if ejected:
            self.ejected(reason)

    def _report_local_trouble(self, reason: str, detail: str, lost: int) -> None:
        if reason == OVERLOAD:
            self.counters.not_connected += lost
        self._unreported += lost
        now = monotonic()
        if now >= self._report_at:
            self.log.warning(
                "backend not connected server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, self._unreported
            )
            self._report_at = now + LOCAL_TROUBLE_EVERY
            self._unreported = 0

    def ejected(self, reason: str) -> None:
        """The health says that it has failed too often."""
        self.log.warning("backend ejected server=%s reason=%s failures=%d", self.label, reason, self.health.failures)
        self._tell_observer()
        for connection in self.connections:
            if connection is not None:
                connection.fail(EJECTED)

    def _tell_observer(self) -> None:
        """It was ejected, or restored."""
        try:
            self.observer.health_changed()
        except Exception:
            internal_errors.record("backend.health_changed", self.log_name)

    def fails_to_catch_up(self, reason: str) -> None:
        """It could not be told to forget what it missed."""
        self._troubled = True
        if self.health.failed(monotonic()):
            self.ejected(reason)

    def eject(self) -> None:
        """An operator ejects it by hand. Called from the loop."""
        if self.health.eject_by_hand(monotonic()):
            self.ejected(EJECTED)

    def restored(self) -> None:
        """It is to be trusted again."""
        self._troubled = False
        self._tell_observer()

    def follow_options(self, backed: bool) -> None:
        """The options have changed. Links, health and counters stay; a lane too many is closed once nobody has used it for a while."""
        options = self.options
        self._connection_count = options.lanes
        self.connections += [None] * (options.lanes - len(self.connections))
        self.health.failure_limit = options.server_failure_limit
        self.health.probe_within(options.server_retry_timeout, monotonic())
        self.health.warming_time = options.warming_time
        self.invalidations.limit = options.journal_size
        self._max_backlog = MAX_BACKLOG + options.max_item_size
        self.backed = backed
        self.health_checker.follow_options()

    def is_busy(self) -> bool:
        """True while somebody waits for an answer."""
        return any(connection is not None and connection.waiting for connection in self.connections)

    # -- the rest

    def tick(self, now: float) -> None:
        """What is due: late links, idle links, whatever the caretaker has to do. Called a few times a timeout. `now`: monotonic seconds."""
        options = self.options
        counted = running.now()  # a pause of ours makes no server late
        for connection in self.connections:
            if connection is not None:
                connection.check_late(counted, options.timeout)
        for connection in self.connections:
            if connection is not None:
                connection.check_idle(counted, options.server_idle_timeout)
        try:
            self.health_checker.tick(now)
        except Exception:
            internal_errors.record("caretaker.tick", self.log_name)

    def reset_counters(self) -> None:
        self.counters.reset()
        self.bytes_sent = self.bytes_received = 0
        if self.meter is not None:
            self.meter.reset()

    def close(self) -> bool:
        """True if that was done; whatever fails of it, the rest is done, and it may be called again. Never raises."""
        done = True
        for step in (self._close_connections, self.health_checker.kill, self.half_closed.cut_all, self._stop_sharing_invalidations):
            try:
                step()
            except Exception:
                internal_errors.record("backend.close", self.log_name)
                done = False
        return done

    def _close_connections(self) -> None:
        for connection in self.connections:
            if connection is not None:
                connection.close()

    def _stop_sharing_invalidations(self) -> None:
        self.share_invalidations(None)

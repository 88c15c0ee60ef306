"""One memcached server: its connections, its health, the writes that it missed, and its counters."""

import logging
from collections.abc import Iterable
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
from gmproxy.backend.missed_writes import FRESH, STALE_ELSEWHERE, STALE_HERE, MissedWrites
from gmproxy.errors import CLOSED, CONNECTING, EJECTED, OVERLOAD, PROTOCOL, RESET, TIMEOUT, BackendError, LocalError
from gmproxy.placement.server_spec import Server
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.request import ReplySink, Request
from gmproxy.shared.changes import ChangeNotes
from gmproxy.shared.ejections import Ejections
from gmproxy.shared.invalidation_marks import PRIMARY
from gmproxy.system.clock import running

#: Maximum number of requests without a reply on one connection. A further request fails with reason overload.
MAX_WAITING = 16384

#: Maximum bytes of requests that the kernel has not taken from one connection, beside one value of the maximum size. Then as above.
MAX_BACKLOG = 64 * 1024 * 1024

#: Seconds between two log lines about failures for which the server is not to blame: there may be one for each request.
LOCAL_FAILURE_LOG_INTERVAL = 10.0


class Backend(MissedWrites):
    """All methods: loop callback or greenlet, unless they say otherwise; none blocks.

    server         its address (gmproxy.placement.server_spec.Server)
    options        of the pool
    observer       is called when the server is ejected or restored, `health_changed()`, and when it was flushed, `was_flushed(backend)`
    backed         True if other sets have the same keys, from which its values are looked up and filled
    set_index      of its ServerSet (gmproxy.routing.sets): 0 for a primary
    is_backup      True for a server that is not a primary
    role           what it is in its pool (gmproxy.shared.invalidation_marks)
    connections    by connection index; None where none is open
    health         gmproxy.backend.health.Health
    health_checker probes the server, identifies its process, and starts its recovery
    half_closed    connections that were given up, on which the server may still make writes
    ask_backup_on_miss   True while a miss of this server proves nothing
    counters       gmproxy.backend.counters.BackendCounters
    unsettled      True if a process that has ended may have sent writes which the server has not read yet (gmproxy.backend.recovery)
    meter, bytes_sent, bytes_received   see gmproxy.backend.interfaces.ConnectionOwner; for the rest, see MissedWrites
    """

    __slots__ = ("server", "options", "observer", "backed", "set_index", "is_backup", "role", "connections", "health", "health_checker",
                 "half_closed", "ask_backup_on_miss", "meter", "bytes_sent", "bytes_received", "counters", "unsettled",
                 "_connection_count", "_max_backlog", "_ejections", "_has_failed", "_last_reason", "_is_proxy", "_loop", "_unreported",
                 "_report_at")  # fmt: skip

    def __init__(
        self,
        server: Server,
        options: Any,
        observer: Any,
        log: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
        notes: ChangeNotes,
        backed: bool = False,
        set_index: int = 0,
        role: str = PRIMARY,
    ) -> None:
        super().__init__(server.label, log, options.journal_size, notes)
        self.server = server
        self.options = options
        self.observer = observer
        self.backed = backed
        self.set_index = set_index
        self.is_backup = set_index != 0
        self.role = role
        self.connections: list[BackendConnection | None] = [None] * options.lanes
        self._connection_count = options.lanes
        self.health = Health(options.server_failure_limit, options.server_retry_timeout, options.warming_time)
        self.half_closed = HalfClosedConnections(self.log_name)
        self.ask_backup_on_miss = False
        self.meter: Meter | None = None
        self.bytes_sent = 0
        self.bytes_received = 0
        self.counters = BackendCounters()
        self.unsettled = False
        self._ejections: Ejections | None = None
        self._max_backlog = MAX_BACKLOG + options.max_item_size
        self._has_failed = False  # the next reply is reported to `health`
        self._last_reason = EJECTED  # of the latest failure
        self._is_proxy = False  # True for a backup that is known to be one
        self._unreported = 0  # requests of _log_local_failure since its last log line
        self._report_at = 0.0
        self._loop = gevent.get_hub().loop
        self.health_checker = HealthChecker(self)

    def __repr__(self) -> str:
        connections = sum(connection is not None for connection in self.connections)
        return f"<Backend {self.label} {self.health.state(monotonic())} connections={connections}>"

    # -- requests

    def send(self, request: Request) -> ReplySink | None:
        """See Route. Fails the request at once if the server is ejected, has too many requests, or may have a stale value of the key."""
        if self.fetches and request.command.is_write:
            self.void_fills_of_write(request)
        if self.behind or self._states is not None:
            staleness = self._staleness(request)
            if staleness == STALE_HERE or staleness == STALE_ELSEWHERE and (self.backed or self.is_backup):
                return self._give_up(request, self._last_reason)
            if staleness == STALE_ELSEWHERE:  # no server is sent a write then: this server misses nothing
                self.counters.errors[self._last_reason] += 1
                return request.fail(self._last_reason, self.label)
        connection_index = request.connection_index % self._connection_count
        connection = self.connections[connection_index]
        if connection is None or connection.closed:  # closed, and still here: connection_closed has raised
            if self.health.ejected:
                return self._give_up(request, EJECTED)
            connection = self._open_connection(connection_index)
        elif connection.waiting.count >= MAX_WAITING or connection.backlog() > self._max_backlog:
            self.counters.failures += 1
            return self._give_up(request, OVERLOAD)
        connection.submit(request)
        return None

    def is_expected_to_fail(self, request: Request) -> bool:
        """True if the latest requests to the server failed, it is ejected, or it may have a stale value of the key of `request`."""
        return self.health.failures > 0 or self.health.ejected or self._staleness(request) != FRESH

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        if self.may_be_stale(key):
            return [Hop("server", self.label, "missed a write of the key; it is deleted there before it is read")]
        state = self.health.state(monotonic())
        return [Hop("server", self.label, UP if state == WARMING and not self.ask_backup_on_miss else state)]

    def request_replied(self, request: Request, found: int) -> ReplySink | None:
        """`request.reply` has arrived, with `found` values. Returns the session that waits for no further reply, or None. Loop callback only."""
        counters = self.counters
        counters.count_reply(request.command)
        if self._has_failed:
            self.health.succeeded()
            self._has_failed = False
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
        """A connection failed before the reply to `request` arrived. Returns the session that waits for no further reply, or None. Loop callback
        only.

        `started`: the server may have received some of the request. `may_repeat`: none of its reply has arrived, and no write of its key was sent
        behind it. A request that was not started, or is idempotent and may be repeated, is sent once more over a new connection: perhaps this
        one was closed while it was idle.
        """
        if not request.retried and reason in (CLOSED, RESET):
            if not started or (request.command.idempotent and may_repeat):
                request.retried = True
                return self.send(request)
        request.started = started
        return self._give_up(request, reason)

    def _give_up(self, request: Request, reason: str) -> ReplySink | None:
        """Fail `request`. A write gets a pending invalidation: the server may have made it, or not."""
        self.counters.errors[reason] += 1
        if request.command.is_write or request.command.kind == "flush":
            self.missed_write(request)
        return request.fail(reason, self.label)

    def request_abandoned(self, request: Request) -> ReplySink | None:
        """As `_give_up`, after an internal error. Returns the session that waits for no further reply, or None. Never raises. Loop callback only."""
        session = request.abandon()
        try:
            if request.command.is_write or request.command.kind == "flush":
                self.missed_write(request)
        except Exception:
            internal_errors.record("backend.request_abandoned", self.log_name)
        return session

    def record_misses(self, asked: int, found: int) -> None:
        """Of `asked` keys that were missing on this server, its backups had `found`."""
        self.health.record_misses(monotonic(), asked, found)

    # -- connections

    def preconnect(self) -> None:
        """Open the first connection, if there is none, before a request needs it."""
        if self.connections[0] is None:
            self._open_connection(0)

    def _open_connection(self, connection_index: int) -> BackendConnection:
        connection = BackendConnection(self, connection_index, self._loop, self.options.backend_protocol)
        self.connections[connection_index] = connection
        gevent.spawn(self._connect, connection)
        return connection

    def _connect(self, connection: BackendConnection) -> None:
        """Connect `connection`, or fail it. In a greenlet of its own: blocks for up to `timeout`."""
        sock = None
        try:
            options = self.options
            # The requests that wait for it fail after `timeout`, by then with the reason why it was not connected.
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
        """`connection` was closed, whatever the reason."""
        self.log.debug("link closed server=%s lane=%d", self.label, connection.connection_index)
        if self.connections[connection.connection_index] is connection:
            self.connections[connection.connection_index] = None
        self.health_checker.connection_closed()

    def connection_failed(self, connection: BackendConnection, reason: str, detail: str, lost: int, fault: bool) -> None:
        """`connection` was closed, and `lost` requests on it get no reply. Without any that is not a failure. `fault`: False if the server is not to
        blame. Loop callback only."""
        if not lost:
            return
        self.counters.count_failures(lost, reason, detail)
        if not fault:
            self._log_local_failure(reason, detail, lost)
            return
        self._has_failed = True
        self._last_reason = reason
        now = monotonic()
        if reason == PROTOCOL:  # perhaps a client's request caused it: only a probe decides
            self.log.warning("backend failed server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, lost)
            self.health.suspect(now)
            return
        first = self.health.failures == 0
        # Each request that times out counts as a failure. A broken connection counts once, however many requests it had.
        ejected = self.health.failed(now, lost if reason in (TIMEOUT, CONNECTING) else 1, reason == TIMEOUT)
        if first or ejected:
            self.log.warning("backend failed server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, lost)
        if ejected:
            self.on_ejected(reason)

    def _log_local_failure(self, reason: str, detail: str, lost: int) -> None:
        if reason == OVERLOAD:
            self.counters.not_connected += lost
        self._unreported += lost
        now = monotonic()
        if now >= self._report_at:
            self.log.warning(
                "backend not connected server=%s reason=%s detail=%r requests=%d", self.label, reason, detail, self._unreported
            )
            self._report_at = now + LOCAL_FAILURE_LOG_INTERVAL
            self._unreported = 0

    def on_ejected(self, reason: str) -> None:
        """`health` has ejected the server: log it, tell the other workers and the observer, and close the connections. Loop callback only."""
        if self._ejections is not None:
            self._ejections.publish(True)
        self.log.warning("backend ejected server=%s reason=%s failures=%d", self.label, reason, self.health.failures)
        self._notify_observer()
        self._fail_connections(self.connections)

    @staticmethod
    def _fail_connections(connections: list[BackendConnection | None]) -> None:
        """Loop callback only."""
        for connection in connections:
            if connection is not None:
                connection.fail(EJECTED)

    def _notify_observer(self) -> None:
        try:
            self.observer.health_changed()
        except Exception:
            internal_errors.record("backend.health_changed", self.log_name)

    def follow_ejections(self) -> None:
        """Eject or restore the server if another worker has done so. Loop callback or greenlet."""
        ejected = None if self._ejections is None else self._ejections.follow()
        if ejected is None or ejected == self.health.ejected:
            return
        if ejected:
            self.health.ejected_elsewhere(monotonic())
            self.log.info("backend ejected by another worker server=%s", self.label)
            self._notify_observer()
            connections, self.connections = self.connections, [None] * len(self.connections)
            self._loop.run_callback(self._fail_connections, connections)  # that resumes clients
        else:
            self.health.restored_elsewhere(monotonic())
            self.log.info("backend restored by another worker server=%s", self.label)
            self._has_failed = False
            self._notify_observer()

    def share_ejections(self, ejections: Ejections | None) -> None:
        """Eject and restore the server together with the other workers; with None, alone. Called at start-up and at a reload."""
        self.follow_ejections()  # else a server that another worker has just restored would be ejected again
        self._ejections = ejections
        if ejections is not None and self.health.ejected and not ejections.is_ejected():
            ejections.publish(True)
        self.follow_ejections()

    def inherit(self, keys: "Iterable[bytes] | None") -> None:
        """A process that has ended has left pending invalidations of `keys`, or, with None, of any key. Loop callback or greenlet."""
        self.unsettled = True
        if keys is None:
            self.missed_everything()
            return
        for key in keys:
            self.missed_key(key)

    def recovery_failed(self, reason: str) -> None:
        """The pending invalidations could not be made. Loop callback only."""
        self._has_failed = True
        if self.health.failed(monotonic()):
            self.on_ejected(reason)

    def eject(self) -> None:
        """For the operator command `eject`. Loop callback only."""
        if self.health.eject_by_hand(monotonic()):
            self.on_ejected(EJECTED)

    def on_restored(self) -> None:
        """`health` has restored the server."""
        if self._ejections is not None:
            self._ejections.publish(False)
        self._has_failed = False
        self._notify_observer()

    def follow_options(self, backed: bool) -> None:
        """The options have changed. Connections, health and counters stay; a connection above the new number of them is closed once it is idle."""
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

    def switch(self, is_on: bool) -> None:
        """The set of the server is switched off, or on again. What is written meanwhile is missed, and may have been missed by the time that this
        worker learns of it: the server is flushed before it is read again. Loop callback or greenlet."""
        self.health_checker.suspended = not is_on
        self.missed_everything()

    def is_busy(self) -> bool:
        """True while a request waits for a reply."""
        return any(connection is not None and connection.waiting for connection in self.connections)

    # -- the rest

    def tick(self, now: float) -> None:
        """Fail connections whose reply is late, close idle ones, and start what the health checker has to do. `now`: monotonic seconds.
        Called several times within a timeout. Loop callback only."""
        options = self.options
        running_now = running.now()  # stops while this process does: a pause of gmproxy does not make a server late
        for connection in self.connections:
            if connection is not None:
                connection.check_late(running_now, options.timeout)
        for connection in self.connections:
            if connection is not None:
                connection.check_idle(running_now, options.server_idle_timeout)
        try:
            self.health_checker.tick(now)
        except Exception:
            internal_errors.record("health_checker.tick", self.log_name)

    def reset_counters(self) -> None:
        self.counters.reset()
        self.bytes_sent = self.bytes_received = 0
        if self.meter is not None:
            self.meter.reset()

    def close(self) -> bool:
        """Close the connections and stop the health check. What is pending stays in shared memory and in the journal. Returns False if one of the
        steps failed: the others are done, and it may be called again. Never raises."""
        done = True
        for step in (
            self._close_connections,
            self.health_checker.stop_checking,
            self.half_closed.cut_all,
        ):
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

"""Checks the health of one server, apart from its requests: probes it, identifies its process, and starts its recovery.

    ejected     a probe succeeds -> identify -> delete what it missed -> restore
    up          but it missed a write -> delete what it missed
    up          but a connection was closed: it may be another process now -> identify -> warming or not

One greenlet at a time does this for a server, and only while there is something to do.
"""

from collections.abc import Callable
from logging import INFO
from time import monotonic
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.control_connection import ControlConnection, Identity, connect
from gmproxy.backend.recovery import Recovery
from gmproxy.errors import BackendError, LocalError

#: Seconds until a server that could not be identified is asked again.
IDENTIFY_AGAIN = 10.0

#: Keys of discarded pending invalidations that are freed in one tick.
SWEEP_AT_ONCE = 4000

#: Seconds. A server reports its uptime in whole seconds: it may have started so much earlier.
UPTIME_GRAIN = 1.0

#: A server that is not ejected has 1/SUSPICION of the timeout to reply to a probe.
SUSPICION = 4


class HealthChecker:
    """Methods: loop callback or greenlet, unless they say otherwise; none blocks.

    backend    the Backend that is checked
    identity   of the server's process (gmproxy.backend.control_connection.Identity); None while it is unknown
    suspended  True while the set of the server is switched off: it is sent nothing
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.identity: Identity | None = None
        self.suspended = False
        self._at_work: Any = None  # the greenlet, while there is one
        self._identify_at = 0.0  # not before this time
        self._recovery = Recovery(backend, lambda: self._connect(), self.lost_keys)
        self._asks_backup = False  # True: misses are looked up on the backup while the server is warming
        self._loop = gevent.get_hub().loop
        self.follow_options()

    def follow_options(self) -> None:
        """The options are new, or have changed. Until the server is identified, its misses prove nothing."""
        backend = self.backend
        self._asks_backup = backend.backed and backend.options.on_miss == "warming"
        self.identity = None
        backend.ask_backup_on_miss = backend.backed and backend.options.on_miss != "never"

    # -- events

    def connection_opened(self) -> None:
        """The server can be reached: what has to be done is tried at once."""
        self._identify_at = 0.0
        self._recovery.retry_now()
        self.tick(monotonic())

    def connection_closed(self) -> None:
        """At the next connection it may be another process, with an empty memory."""
        self.identity = None
        self.backend.health.age_unknown()
        if self._asks_backup:
            self.backend.ask_backup_on_miss = True

    def tick(self, now: float) -> None:
        """Start what is due. `now`: monotonic seconds."""
        backend = self.backend
        health = backend.health
        backend.invalidations.sweep(SWEEP_AT_ONCE)
        if self.suspended:
            return
        if self._asks_backup and backend.ask_backup_on_miss and self.identity is not None and not health.is_warming(now):
            backend.ask_backup_on_miss = False
            backend.log.info("backend warm server=%s", backend.label)
        if self._at_work is not None:
            return
        if health.probe_is_due(now):
            self._start(self._probe)
        elif health.ejected:
            return
        elif self._recovery.is_due(now):
            self._start(self._recover)
        elif self._asks_backup and self.identity is None and any(backend.connections) and now >= self._identify_at:
            self._start(self._identify)

    def stop_checking(self) -> None:
        """End the greenlet, if there is one. Does not wait for its end."""
        if self._at_work is not None:
            self._at_work.kill(block=False)

    # -- the tasks: greenlet only; each blocks until it is done or a timeout is over

    def _start(self, task: Callable[[], None]) -> None:
        self._at_work = gevent.spawn(self._run, task)

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception:  # an internal error: the next tick finds what is still to be done
            internal_errors.record("health_checker." + task.__name__.lstrip("_"), self.backend.log_name)
        finally:
            self._at_work = None

    def _connect(self, timeout: float | None = None) -> ControlConnection:
        options = self.backend.options
        return connect(self.backend.server, options, options.connect_timeout, timeout or options.timeout)

    def _probe(self) -> None:
        backend = self.backend
        health = backend.health
        health.probe_started(monotonic())
        try:
            self._probe_and_catch_up()
        except LocalError as error:
            backend.log.debug("probe not made server=%s reason=%s", backend.label, error)
        except BackendError as error:
            backend.log.debug("probe failed server=%s reason=%s", backend.label, error)
            if health.probe_failed(monotonic()):
                self._loop.run_callback(backend.on_ejected, error.reason)
        else:
            self._probe_succeeded()
        finally:
            health.probe_void(monotonic())  # does nothing if there is a result

    def _probe_and_catch_up(self) -> None:
        """Ping the server. If it is ejected, also do what must be done before it is restored. Raises BackendError."""
        health = self.backend.health
        with self._connect(None if health.ejected else self.backend.options.timeout / SUSPICION) as server:
            server.ping()
        if health.ejected:
            self._recovery.log_next()
            self._identify()
            self._recovery.catch_up()

    def _probe_succeeded(self) -> None:
        """Report it to `health`; if that restores the server, log and pass that on."""
        backend = self.backend
        health = backend.health
        was_ejected = health.ejected
        down = monotonic() - health.ejected_at
        health.probe_succeeded(monotonic())
        if was_ejected and not health.ejected:
            backend.log.warning("backend restored server=%s down=%.1fs", backend.label, down)
            backend.on_restored()

    # -- identification

    def _identify(self) -> None:
        """Ask the server for its pid and uptime, which tell whether its memory is new. If that fails, nothing changes."""
        backend = self.backend
        if not self._asks_backup and not backend.invalidations:
            return
        self._identify_at = monotonic() + IDENTIFY_AGAIN  # reset below if it succeeds
        try:
            with self._connect() as server:
                identity = server.identify()
        except BackendError as error:
            backend.log.warning("backend not identified server=%s reason=%s", backend.label, error)
            return
        self._identify_at = 0.0
        self.identity = identity
        uptime = 0 if identity.uptime is None else identity.uptime
        now = monotonic()
        if identity.uptime is not None and now - uptime - UPTIME_GRAIN > backend.invalidations.last_at and not backend.half_closed:
            backend.invalidations.clear()  # it has started since the last missed write, with an empty memory
        backend.health.age_known(now, uptime)
        self._update_warming(now, f"pid={identity.pid} uptime={uptime}s")

    def lost_keys(self, cause: str, level: int = INFO) -> None:
        """Keys were deleted there that the backups may have. `cause`, `level`: of the log line."""
        now = monotonic()
        self.backend.health.has_holes(now)
        self._update_warming(now, cause, level)

    def _update_warming(self, now: float, cause: str, level: int = INFO) -> None:
        backend = self.backend
        if not self._asks_backup:
            return
        backend.ask_backup_on_miss = backend.health.is_warming(now)
        if backend.ask_backup_on_miss:
            backend.log.log(level, "backend warming server=%s %s", backend.label, cause)

    def _recover(self) -> None:
        self._recovery.try_to_catch_up()

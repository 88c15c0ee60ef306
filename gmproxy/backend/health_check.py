"""Checks the health of one backend, beside the requests: probes it, finds out which process it is, and starts its recovery.

    ejected     a probe is answered -> identify -> delete what it missed -> restore
    up          but behind (some change failed)  -> delete what it missed
    up          but a link was lost: it may be another process now -> identify -> warming or not

One greenlet at a time does this for a backend, and only while there is something to do.
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

#: A server that did not say who it is is asked again after so many seconds.
IDENTIFY_AGAIN = 10.0

#: Keys freed with one tick of those that are in no journal any more.
SWEEP_AT_ONCE = 4000

#: uptime is told in whole seconds: the server may have started so much earlier than it says.
UPTIME_GRAIN = 1.0

#: A server that is suspected to hang has this part of the timeout to answer a probe.
SUSPICION = 4


class HealthChecker:
    """
    backend    the Backend that is checked
    identity   of the process (gmproxy.backend.control_connection.Identity); None while it is not known
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.identity: Identity | None = None
        self._at_work = None  # the greenlet
        self._identify_at = 0.0  # not before this time
        self._recovery = Recovery(backend, lambda: self._converse(), self.lost_keys)
        self._asks_backup = False
        self._loop = gevent.get_hub().loop
        self.follow_options()

    def follow_options(self) -> None:
        """The options are new, or have changed: until the server has said who it is, its misses prove nothing."""
        backend = self.backend
        self._asks_backup = backend.backed and backend.options.on_miss == "warming"
        self.identity = None
        backend.ask_backup_on_miss = backend.backed and backend.options.on_miss != "never"

    # -- what it is told

    def connection_opened(self) -> None:
        self._identify_at = 0.0
        self._recovery.retry_now()
        self.tick(monotonic())

    def connection_closed(self) -> None:
        """When we come back it may be another process, with an empty memory."""
        self.identity = None
        self.backend.health.age_unknown()
        if self._asks_backup:
            self.backend.ask_backup_on_miss = True

    def tick(self, now: float) -> None:
        """Do what is due."""
        backend = self.backend
        health = backend.health
        backend.invalidations.sweep(SWEEP_AT_ONCE)
        if self._asks_backup and backend.ask_backup_on_miss and self.identity is not None and not health.is_warming(now):
            backend.ask_backup_on_miss = False
            backend.log.info("backend warm server=%s", backend.label)
        if self._at_work is not None:
            return
        if health.probe_is_due(now):
            self._work(self._probe)
        elif health.ejected:
            return
        elif self._recovery.is_due(now):
            self._work(self._catch_up_alone)
        elif self._asks_backup and self.identity is None and any(backend.connections) and now >= self._identify_at:
            self._work(self._identify)

    def kill(self) -> None:
        if self._at_work is not None:
            self._at_work.kill(block=False)

    # -- what it does, each in a greenlet

    def _work(self, task: Callable[[], None]) -> None:
        self._at_work = gevent.spawn(self._run, task)

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception:  # a fault of our own: the next tick finds what is still to be done
            internal_errors.record("caretaker." + task.__name__.lstrip("_"), self.backend.log_name)
        finally:
            self._at_work = None

    def _converse(self, timeout: float | None = None) -> ControlConnection:
        options = self.backend.options
        return connect(self.backend.server, options, options.connect_timeout, timeout or options.timeout)

    def _probe(self) -> None:
        backend = self.backend
        health = backend.health
        health.probe_begins(monotonic())
        try:
            self._probe_and_catch_up()
        except LocalError as error:
            backend.log.debug("probe not made server=%s reason=%s", backend.label, error)
        except BackendError as error:
            backend.log.debug("probe failed server=%s reason=%s", backend.label, error)
            if health.probe_failed(monotonic()):
                self._loop.run_callback(backend.ejected, error.reason)
        else:
            self._probe_answered()
        finally:
            health.probe_void(monotonic())  # if it has no result yet: whatever ended it, the server is probed again

    def _probe_and_catch_up(self) -> None:
        """Ask for a sign of life and, of a server that is ejected, all that must be done before it serves. Raises BackendError."""
        health = self.backend.health
        with self._converse(None if health.ejected else self.backend.options.timeout / SUSPICION) as server:
            server.ping()
        if health.ejected:
            self._recovery.log_next()
            self._identify()
            self._recovery.catch_up()

    def _probe_answered(self) -> None:
        """Trust it again, if it was ejected."""
        backend = self.backend
        health = backend.health
        was_ejected = health.ejected  # perhaps since the probe began: then by requests, and this was no answer to that
        down = monotonic() - health.ejected_at
        health.probe_succeeded(monotonic())
        if was_ejected and not health.ejected:
            backend.log.warning("backend restored server=%s down=%.1fs", backend.label, down)
            backend.restored()

    # -- who is it?

    def _identify(self) -> None:
        """Ask the server, and make of the answer what it means for its memory. Without an answer nothing is known."""
        backend = self.backend
        if not self._asks_backup and not backend.invalidations:
            return
        self._identify_at = monotonic() + IDENTIFY_AGAIN  # unless it succeeds, whatever goes wrong
        try:
            with self._converse() as server:
                identity = server.identify()
        except BackendError as error:
            backend.log.warning("backend not identified server=%s reason=%s", backend.label, error)
            return
        self._identify_at = 0.0
        self.identity = identity
        uptime = 0 if identity.uptime is None else identity.uptime
        now = monotonic()
        if identity.uptime is not None and now - uptime - UPTIME_GRAIN > backend.invalidations.last_at and not backend.half_closed:
            backend.invalidations.clear()  # it has started since, with an empty memory
        backend.health.age_known(now, uptime)
        self._warms(now, f"pid={identity.pid} uptime={uptime}s")

    def lost_keys(self, cause: str, level: int = INFO) -> None:
        """Something was deleted on it that the backups may have."""
        now = monotonic()
        self.backend.health.has_holes(now)
        self._warms(now, cause, level)

    def _warms(self, now: float, cause: str, level: int = INFO) -> None:
        backend = self.backend
        if not self._asks_backup:
            return
        backend.ask_backup_on_miss = backend.health.is_warming(now)
        if backend.ask_backup_on_miss:
            backend.log.log(level, "backend warming server=%s %s", backend.label, cause)

    def _catch_up_alone(self) -> None:
        self._recovery.try_to_catch_up()

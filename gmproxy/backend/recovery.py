"""Recovery: deletes on one server the keys that may be stale there (invalidations.py).

For an ejected server this is done before it is restored (health_check.py). For a server that is up but missed some writes it is done as soon as
possible; until then these keys are not read there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from logging import DEBUG, INFO
from time import monotonic
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.control_connection import ControlConnection
from gmproxy.errors import TIMEOUT, BackendError, LocalError

#: Keys deleted with one send, and seconds until the next: so that clients hardly notice.
DELETE_AT_ONCE = 200
REST = 0.001

#: Seconds until a failed recovery is tried again.
CATCH_UP_AGAIN = 0.2

#: Seconds between two log lines at level info about deleted keys: with auto_eject_hosts there may be many.
LOG_INTERVAL = 10.0

#: How often within a timeout it is checked whether the server has closed the half-closed connections.
CHECKS_IN_TIMEOUT = 50

#: Maximum number of waits, each for the connections that are half-closed by then. If there are still others, the recovery fails and is tried again.
MAX_WAITS = 4


class Recovery:
    """Of one `backend`. `catch_up` and `try_to_catch_up`: greenlet only, one at a time; the other methods: loop callback or greenlet.

    `connect()` returns a ControlConnection to the server. `on_deleted(cause, level)` is called after keys were deleted that the backups may have:
    what was deleted, and the log level for it.
    """

    def __init__(
        self, backend: Any, connect: Callable[[], AbstractContextManager[ControlConnection]], on_deleted: Callable[[str, int], None]
    ) -> None:
        self._backend = backend
        self._connect = connect
        self._on_deleted = on_deleted
        self._retry_at = 0.0  # monotonic seconds: not before
        self._log_at = 0.0  # monotonic seconds: at debug level before
        self._loop = gevent.get_hub().loop

    def is_due(self, now: float) -> bool:
        """True if the backend has pending invalidations, and it is time to try. `now`: monotonic seconds."""
        return self._backend.behind and now >= self._retry_at

    def retry_now(self) -> None:
        """The server can be reached again: the next attempt is due at once."""
        self._retry_at = 0.0

    def log_next(self) -> None:
        """The next `catch_up` is logged at level info."""
        self._log_at = 0.0

    def try_to_catch_up(self) -> None:
        """As `catch_up`, for a server that is up: a failure is reported to its health, and it is tried again after CATCH_UP_AGAIN."""
        backend = self._backend
        try:
            self.catch_up()
        except BackendError as error:
            backend.log.debug("catching up failed server=%s reason=%s", backend.label, error)
            if not isinstance(error, LocalError):
                self._loop.run_callback(backend.recovery_failed, error.reason)
        finally:
            self._retry_at = monotonic() + CATCH_UP_AGAIN

    def catch_up(self) -> None:
        """Delete on the server the keys that have pending invalidations now. Greenlet only: blocks until it is done. Raises BackendError.

        Keys that are noted meanwhile stay pending: while writes keep failing there would be no end. They are not read before the next time.
        """
        backend = self._backend
        invalidations = backend.invalidations
        keys = flushes = 0
        try:
            if invalidations:
                pending = len(invalidations)
                with self._connect() as server:
                    if invalidations.overflowed:
                        self._wait_for_late_writes(server)
                        invalidations.take_everything()
                        self._delete(server.flush)
                        flushes = 1
                    while keys < pending and not invalidations.overflowed:
                        self._wait_for_late_writes(server)
                        taken = invalidations.take(DELETE_AT_ONCE)
                        if not taken:
                            break  # they have overflowed meanwhile
                        self._delete(server.delete, taken, REST)
                        keys += len(taken)
        finally:  # what was deleted before a failure stays deleted
            backend.counters.keys_deleted += keys
            backend.counters.flushes += flushes
            if flushes:
                internal_errors.guarded("recovery.was_flushed", backend.observer.was_flushed)(backend)
        backend.behind = bool(invalidations)
        if keys or flushes:
            self._log(keys, flushes)

    def _delete(self, delete: Callable[..., None], *arguments: Any) -> None:
        """delete(*arguments), for the keys that were taken from the pending invalidations. If it raises, they are put back."""
        invalidations = self._backend.invalidations
        try:
            delete(*arguments)
        except BaseException:
            invalidations.not_deleted()
            raise
        invalidations.deleted()

    def _log(self, keys: int, flushes: int) -> None:
        now = monotonic()
        level = INFO if now >= self._log_at else DEBUG
        if level == INFO:
            self._log_at = now + LOG_INTERVAL
        self._backend.log.log(level, "backend caught up server=%s keys=%d flushes=%d", self._backend.label, keys, flushes)
        self._on_deleted(f"deleted={keys} flushes={flushes}", level)

    def _wait_for_late_writes(self, server: ControlConnection) -> None:
        """Wait until no write that was sent earlier can bring back what is deleted now. Raises BackendError."""
        for _ in range(MAX_WAITS):
            self._wait_for_ended_processes(server)
            self._wait_for_half_closed(server)
            if not self._backend.unsettled:  # no process has ended meanwhile
                return
        raise BackendError(TIMEOUT, "processes of the service keep ending")

    def _wait_for_ended_processes(self, server: ControlConnection) -> None:
        """Wait for a timeout if a process that has ended may have sent writes that the server has not read yet: they lie in its buffers, and are not
        to bring back what is deleted now. Raises BackendError."""
        backend = self._backend
        if backend.unsettled:
            backend.unsettled = False  # another process may end meanwhile
            try:
                server.ping()
                gevent.sleep(backend.options.timeout)
                server.ping()
            except BaseException:
                backend.unsettled = True
                raise

    def _wait_for_half_closed(self, server: ControlConnection) -> None:
        """Wait until the server has read everything that was ever sent to it, so that no late write brings back what is deleted now. Raises
        BackendError.

        A connection that the server does not close, because packets were lost, is reset after a timeout. A server that was stopped still reads
        later what lies in its buffers, even after a reset. So it must reply before that timeout, and after it.
        """
        half_closed = self._backend.half_closed
        for _ in range(MAX_WAITS):
            given_up = set(half_closed)
            if not given_up:
                return
            server.ping()
            if self._are_closed(given_up):
                continue
            server.ping()
            half_closed.cut(given_up)
        if half_closed:
            raise BackendError(TIMEOUT, "the server does not close connections that were given up")

    def _are_closed(self, given_up: set[Any]) -> bool:
        """True if the server closes all these connections within the timeout."""
        interval = self._backend.options.timeout / CHECKS_IN_TIMEOUT
        for _ in range(CHECKS_IN_TIMEOUT):
            if given_up.isdisjoint(self._backend.half_closed):
                return True
            gevent.sleep(interval)
        return False

"""Deletes on one server what may be old there: the keys of which it missed a change (invalidations.py).

While a server is ejected this is part of its return (health_check.py). A server that is up but missed some changes is caught up with as soon
as possible; until then these keys are not read there.
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

#: Keys deleted with one send, and seconds of rest before the next: clients shall hardly notice.
DELETE_AT_ONCE = 200
REST = 0.001

#: Seconds until a failed recovery is tried again.
CATCH_UP_AGAIN = 0.2

#: Seconds between two log lines about deleted keys at level info: there may be many while others share a server's keys.
LOG_INTERVAL = 10.0

#: Looks in a timeout whether the server has ended the connections that linger.
GLANCES = 50

#: Times that it is waited for the connections that linger by then; if there are still more after that, it is tried again later.
MAX_ROUNDS = 4


class Recovery:
    """Of one `backend`. All methods but `is_due` are for greenlets, one at a time.

    `connect()` gives a ControlConnection to its server. `on_deleted(cause, level)` is called when the server has lost keys that its backups may
    have: what it is that was deleted, and the level at which that is logged.
    """

    def __init__(
        self, backend: Any, connect: Callable[[], AbstractContextManager[ControlConnection]], on_deleted: Callable[[str, int], None]
    ) -> None:
        self._backend = backend
        self._connect = connect
        self._on_deleted = on_deleted
        self._retry_at = 0.0  # monotonic: not before
        self._log_at = 0.0  # monotonic: at debug level before
        self._loop = gevent.get_hub().loop

    def is_due(self, now: float) -> bool:
        """True if the backend is behind, and it is time to try. `now`: monotonic seconds."""
        return self._backend.behind and now >= self._retry_at

    def retry_now(self) -> None:
        """The server can be reached again: the next attempt need not wait."""
        self._retry_at = 0.0

    def log_next(self) -> None:
        """The next `catch_up` is logged, however short ago the one before was."""
        self._log_at = 0.0

    def try_to_catch_up(self) -> None:
        """As `catch_up`, for a server that is up: a failure counts against its health, and it is tried again later."""
        backend = self._backend
        try:
            self.catch_up()
        except BackendError as error:
            backend.log.debug("catching up failed server=%s reason=%s", backend.label, error)
            if not isinstance(error, LocalError):
                self._loop.run_callback(backend.fails_to_catch_up, error.reason)
        finally:
            self._retry_at = monotonic() + CATCH_UP_AGAIN

    def catch_up(self) -> None:
        """Delete on the server whatever may be old there at this moment. Raises BackendError.

        What is noted meanwhile is left for the next time: where changes never cease there would be no end. It is not read before.
        """
        backend = self._backend
        invalidations = backend.invalidations
        keys = flushes = 0
        try:
            if invalidations:
                left = len(invalidations)
                with self._connect() as server:
                    if invalidations.overflowed:
                        self._outlast_half_closed(server)
                        invalidations.take_everything()
                        self._delete(server.flush)
                        flushes = 1
                    while keys < left and not invalidations.overflowed:
                        self._outlast_half_closed(server)
                        taken = invalidations.take(DELETE_AT_ONCE)
                        if not taken:
                            break  # while we waited they became too many
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
        """What was taken from the journal, or put it back."""
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

    def _outlast_half_closed(self, server: ControlConnection) -> None:
        """Wait until the server has read all that was ever sent to it, so that nothing we delete comes back. Raises BackendError.

        A connection that it does not end, since its packets are lost, is cut after a timeout. But a server that was stopped has what was
        delivered to it in its buffers, and reads that later, a cut or not: so it must answer before that timeout, and after it. (In a greenlet.)
        """
        half_closed = self._backend.half_closed
        for _ in range(MAX_ROUNDS):
            given_up = set(half_closed)
            if not given_up:
                return
            server.ping()
            if self._ended(given_up):
                continue
            server.ping()
            half_closed.cut(given_up)
        if half_closed:
            raise BackendError(TIMEOUT, "connections that were given up do not end")

    def _ended(self, given_up: set[Any]) -> bool:
        """True if the server ends all these connections within the timeout."""
        glance = self._backend.options.timeout / GLANCES
        for _ in range(GLANCES):
            if given_up.isdisjoint(self._backend.half_closed):
                return True
            gevent.sleep(glance)
        return False

"""A server for unit tests of the health check and the recovery, without a network."""

import logging
from contextlib import contextmanager
from types import SimpleNamespace

import gevent

from gmproxy.backend import health_check
from gmproxy.backend.health import Health
from gmproxy.backend.invalidations import PendingInvalidations
from support.timing import PATIENCE

#: Maximum number of pending invalidations.
JOURNAL_SIZE = 1000

#: Timeout of a request, seconds; that of a health check is a fraction of it.
REQUEST_TIMEOUT = 0.1


class RecordingControlConnection:
    """The connection of a health check or a recovery to the server.

    commands   the commands sent: "ping", "flush", or the number of keys of a delete
    meanwhile  meanwhile(connection) is called for each command, after it was recorded
    """

    def __init__(self):
        self.commands = []
        self.meanwhile = lambda connection: None

    def _record(self, command):
        self.commands.append(command)
        self.meanwhile(self)

    def delete(self, keys, rest):
        assert keys
        self._record(len(keys))

    def ping(self):
        self._record("ping")

    def flush(self):
        self._record("flush")


class CheckedBackend:
    """The part of a Backend that its health check and its recovery use. `reports`: what they reported, in order."""

    label = "a:1"
    log_name = "server=a:1"
    log = logging.getLogger("test")
    backed = False
    connections = [None]

    def __init__(self):
        self.options = SimpleNamespace(on_miss="never", timeout=REQUEST_TIMEOUT)
        self.invalidations = PendingInvalidations(JOURNAL_SIZE)
        self.health = Health(3, 10.0)
        self.half_closed = []
        self.behind = False
        self.unsettled = False
        self.counters = SimpleNamespace(keys_deleted=0, flushes=0)
        self.observer = SimpleNamespace(was_flushed=lambda backend: None)
        self.reports = []

    def misses(self, *keys):
        """Record that the server has missed writes of `keys`."""
        self.behind = True
        for key in keys:
            self.invalidations.note(key, 0.0)

    def recovery_failed(self, reason):
        self.reports.append(reason)

    def on_ejected(self, reason):
        self.reports.append(f"ejected {reason}")

    def on_restored(self):
        self.reports.append("restored")


class Checked:
    """A HealthChecker with recording doubles.

    backend     the CheckedBackend
    connection  the RecordingControlConnection that it uses for all its connections
    checker     the HealthChecker
    """

    def __init__(self):
        self.backend = CheckedBackend()
        self.connection = RecordingControlConnection()
        self.checker = health_check.HealthChecker(self.backend)

        @contextmanager
        def connect(timeout=None):
            yield self.connection

        self.checker._connect = connect

    def tick(self, now):
        """Run the actions that are due at `now` to their end."""
        self.checker.tick(now)
        if self.checker._at_work is not None:
            self.checker._at_work.join(PATIENCE)
        gevent.sleep(0)  # runs the callbacks that are waiting

    def catch_up(self):
        """Run the recovery of a server that is not ejected, once."""
        gevent.spawn(self.checker._recover).join(PATIENCE)
        gevent.sleep(0)  # runs the callbacks that are waiting


def fails_with(error):
    """A `meanwhile` that raises `error`."""

    def fail(connection):
        raise error

    return fail

"""Every exception of gmproxy, by blame: the configuration, a backend, or the machine we run on.

A client's own mistakes are no exceptions: they are answered with memcached's error lines.
"""

#: Why a backend could not answer. The same word stands in the log, the counter, the reply and the test.
CONNECTING = "connecting"  # no connection could be made
TIMEOUT = "timeout"  # it did not answer in time
CLOSED = "closed"  # it closed the connection
RESET = "reset"  # the connection was cut
PROTOCOL = "protocol"  # it answered something that is not the memcached protocol
OVERLOAD = "overload"  # too much is already waiting for it
EJECTED = "ejected"  # it failed too often and is left alone until a probe succeeds
LOGIN = "login"  # it did not accept our user and password

REASONS = (CONNECTING, TIMEOUT, CLOSED, RESET, PROTOCOL, OVERLOAD, EJECTED, LOGIN)


class GmproxyError(Exception):
    """The root of our own exceptions. `str()` of one is a single line that a user can act on."""


class ConfigError(GmproxyError):
    """What the user wrote on the command line or in a file cannot be used (exit status 2)."""


class StartError(GmproxyError):
    """The configuration is fine but the machine refuses: a port in use, an unknown user (exit status 1)."""


class BackendError(GmproxyError):
    """A memcached server failed. `reason` is one of REASONS, `detail` says more for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class LocalError(BackendError):
    """A server could not be asked for a reason that says nothing about it: we lack descriptors, memory or local ports, or the name
    service has no answer. It never counts against the health of the server."""

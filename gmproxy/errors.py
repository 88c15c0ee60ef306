"""The exceptions of gmproxy, by cause: the configuration, the system, or a server.

Errors of a client are no exceptions: the reply is memcached's error line.
"""

#: The reason for which a request to a server failed. The same word is in the log, the counters and the reply to the client.
CONNECTING = "connecting"  # no connection could be made
TIMEOUT = "timeout"  # no reply within the timeout
CLOSED = "closed"  # the server closed the connection
RESET = "reset"  # the connection was reset
PROTOCOL = "protocol"  # the reply is not valid in the memcached protocol
OVERLOAD = "overload"  # not sent: too many requests wait for the server, or this process lacks resources for a connection
EJECTED = "ejected"  # not sent: the server failed too often; no requests are sent to it until a probe succeeds
LOGIN = "login"  # the server did not accept the user and password

REASONS = (CONNECTING, TIMEOUT, CLOSED, RESET, PROTOCOL, OVERLOAD, EJECTED, LOGIN)


class GmproxyError(Exception):
    """The base class of gmproxy's exceptions. `str()` of one is a line that tells the operator what to correct."""


class ConfigError(GmproxyError):
    """The configuration or a command line is not valid (exit status 2)."""


class StartError(GmproxyError):
    """The configuration is valid, but the system refuses: a port is in use, a user does not exist (exit status 1)."""


class BackendError(GmproxyError):
    """A memcached server failed. `reason`: one of REASONS; `detail`: a text for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class LocalError(BackendError):
    """No request could be sent to a server, for a cause in this process: it lacks descriptors, memory or local ports, or the name service does
    not reply. It does not count as a failure of the server."""

"""The interface of gmproxy.backend.backend.Backend for the modules below it."""

from gmproxy.protocol.request import ReplySink, Request, Route


class ConnectionOwner(Route):
    """What a connection uses of its Backend, which derives from this.

    log_name                     the server as a field of a log line, "server=10.0.0.1:11211"
    meter                        gets the latencies (gmproxy.backend.latency.Meter); None: not measured
    bytes_sent, bytes_received   so far, on all connections
    """

    __slots__ = ()

    def request_replied(self, request: Request, found: int) -> ReplySink | None:
        """`request.reply` has arrived, with `found` values. Returns the session that waits for no further reply, or None."""
        raise NotImplementedError

    def request_abandoned(self, request: Request) -> ReplySink | None:
        """An internal error was raised about `request`. Returns as `request_replied`. Never raises."""
        raise NotImplementedError

"""The replies of a pool's servers to `stats`, for clients that send `stats` to the proxy.

All servers are asked at once, each on a connection apart; one that does not reply in time is left out. The replies are cached, so that however many
clients ask, a server gets one `stats` a second at most.
"""

from time import monotonic
from typing import Any

import gevent
from gevent.event import AsyncResult

from gmproxy import internal_errors
from gmproxy.backend.control_connection import connect
from gmproxy.errors import BackendError
from gmproxy.placement.server_spec import Server

#: Seconds that a client waits for the replies of all servers at most.
REPLY_WITHIN = 0.25

#: Seconds for which the replies are cached.
KEPT_FOR = 1.0

#: A server's reply to `stats`: [(name, value)].
StatLines = list[tuple[str, str]]


class ServerStats:
    """Those of the primaries of `router`. Backups have copies, whose items would count twice."""

    def __init__(self, router: Any, options: Any) -> None:
        self._router = router
        self._options = options
        self._kept: dict[bytes, tuple[float, AsyncResult]] = {}  # arguments of stats -> (until when, monotonic seconds; replies)
        self._latest: dict[str, StatLines] = {}  # label of a server -> its latest reply to a plain `stats`

    def ask(self, arguments: bytes) -> dict[str, StatLines]:
        """{label of the server: reply} of the servers that reply to `stats` with `arguments`. Greenlet only: blocks for up to REPLY_WITHIN
        seconds."""
        now = monotonic()
        until, result = self._kept.get(arguments, (0.0, None))
        if result is None or (result.ready() and now >= until):
            result = AsyncResult()
            self._kept[arguments] = now + KEPT_FOR, result
            gevent.spawn(self._ask_all, arguments, result)
        replies: dict[str, StatLines] = result.get()
        return replies

    def latest(self) -> dict[str, StatLines]:
        """{label of the server: its latest reply to a plain `stats`}, without servers that have not replied yet. Loop callback or greenlet."""
        return self._latest

    def _ask_all(self, arguments: bytes, result: AsyncResult) -> None:
        replies: dict[str, StatLines] = {}
        try:
            servers = {backend.label: backend.server for backend in self._router.backends if not backend.health.ejected}
            with gevent.Timeout(REPLY_WITHIN, False):
                gevent.joinall([gevent.spawn(self._ask_one, label, server, arguments, replies) for label, server in servers.items()])
            replies = {
                label: replies[label] for label in servers if label in replies
            }  # in their order; a copy, to which no late reply is added
            if not arguments:
                known = [backend.label for backend in self._router.backends]
                self._latest = {label: lines for label, lines in (self._latest | replies).items() if label in known}
        finally:
            result.set(replies)

    def _ask_one(self, label: str, server: Server, arguments: bytes, replies: dict[str, StatLines]) -> None:
        try:
            with connect(server, self._options, REPLY_WITHIN, REPLY_WITHIN) as connection:
                replies[label] = connection.stats(arguments)
        except BackendError:
            pass  # this reply is left out; the health checker finds what is wrong
        except Exception:
            internal_errors.record("server_stats.ask", f"server={label}")

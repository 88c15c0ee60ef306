"""What the servers of a pool say of themselves: their answers to `stats`, for clients that ask the proxy.

Each server is asked on a connection of its own, all at once; one that does not reply in time is left out. The replies are cached for a moment, so
that clients that ask often cost the servers no more than one `stats` a second.
"""

from time import monotonic
from typing import Any

import gevent
from gevent.event import AsyncResult

from gmproxy import internal_errors
from gmproxy.backend.control_connection import connect
from gmproxy.errors import BackendError
from gmproxy.placement.server_spec import Server

#: Seconds that a client waits at most for the replies of all servers.
ANSWER_WITHIN = 0.25

#: Seconds for which the replies are cached.
KEPT_FOR = 1.0

#: The lines of a server's reply to `stats`: names and values.
StatLines = list[tuple[str, str]]


class ServerStats:
    """`router`: whose primaries are asked. Backups have copies: to count them too would count items twice."""

    def __init__(self, router: Any, options: Any) -> None:
        self._router = router
        self._options = options
        self._kept: dict[bytes, tuple[float, AsyncResult]] = {}  # arguments of stats -> (until when, reply)
        self._latest: dict[str, StatLines] = {}  # label of a server -> its latest reply to a plain `stats`

    def ask(self, arguments: bytes) -> dict[str, StatLines]:
        """{label: [(name, value)]} of those that answer `stats` with `arguments` (bytes). Waits, and raises nothing."""
        now = monotonic()
        until, answer = self._kept.get(arguments, (0.0, None))
        if answer is None or (answer.ready() and now >= until):
            answer = AsyncResult()
            self._kept[arguments] = now + KEPT_FOR, answer
            gevent.spawn(self._ask_all, arguments, answer)
        return answer.get()

    def latest(self) -> dict[str, StatLines]:
        """{label: [(name, value)]} of a plain `stats`, as each server answered it last, as far as there was such an answer."""
        return self._latest

    def _ask_all(self, arguments: bytes, answer: AsyncResult) -> None:
        replies: dict[str, StatLines] = {}
        try:
            asked = {backend.label: backend.server for backend in self._router.backends if not backend.health.ejected}
            with gevent.Timeout(ANSWER_WITHIN, False):
                gevent.joinall([gevent.spawn(self._ask_one, label, server, arguments, replies) for label, server in asked.items()])
            replies = {label: replies[label] for label in asked if label in replies}  # in their order, and nothing comes later
            if not arguments:
                known = [backend.label for backend in self._router.backends]
                self._latest = {label: lines for label, lines in (self._latest | replies).items() if label in known}
        finally:
            answer.set(replies)

    def _ask_one(self, label: str, server: Server, arguments: bytes, replies: dict[str, StatLines]) -> None:
        try:
            with connect(server, self._options, ANSWER_WITHIN, ANSWER_WITHIN) as talk:
                replies[label] = talk.stats(arguments)
        except BackendError:
            pass  # its health is looked after by others
        except Exception:
            internal_errors.record("server_stats.ask", f"server={label}")

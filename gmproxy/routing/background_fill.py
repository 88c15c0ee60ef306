"""Fills a server with one key that it lacks, although no client reads it: for the operator command `refill`."""

from collections.abc import Callable

from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.fetched_item import Item
from gmproxy.protocol.request import ReplySink, Request, new_request
from gmproxy.routing.fetch import Fetch
from gmproxy.routing.fill import Fill

#: Outcomes: the value was sent to the server; no other set has the key; it was not sent, because the key was changed meanwhile or may not be
#: filled now; another set did not reply.
FILLED, MISSING, NOT_FILLED, FAILED = OUTCOMES = ("filled", "missing", "not_filled", "failed")

GET = COMMANDS[b"get"]


class BackgroundFill(Fetch):
    """The Fetch of `key` for the server of `fill`. `on_end(outcome)` is called once, in a loop callback or at once: OUTCOMES.

    The rules are those of a read: of several fetches of a key the first one fills it, a write of the key voids it, and other proxies may have
    written it.
    """

    __slots__ = ("key", "_on_end", "_outcome")

    def __init__(self, key: bytes, fill: Fill, on_end: Callable[[str], object]) -> None:
        super().__init__(new_request(GET, key, b""), fill.server, fill.source, fill.fill_writes, fill.rules)
        self.key = key
        self._on_end: Callable[[str], object] | None = on_end
        self._outcome = MISSING

    def start(self) -> ReplySink | None:
        """Look it up. Loop callback or greenlet. Returns as Route.send."""
        if not self.may_fetch(self.key):
            self._end(NOT_FILLED)
            return None
        try:
            return self.fetch([self.key])
        except Exception:
            self._end(FAILED)
            raise

    def on_item(self, key: bytes, item: Item) -> None:
        self._outcome = NOT_FILLED

    def fill_key(self, key: bytes, item: Item) -> None:
        super().fill_key(key, item)
        self._outcome = FILLED

    def done(self) -> ReplySink | None:
        self._end(FAILED if self.in_doubt else self._outcome)
        return None

    def on_internal_error(self, lookup: Request) -> ReplySink | None:
        session = Fetch.on_internal_error(self, lookup)
        self._end(FAILED)
        return session

    def _end(self, outcome: str) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(outcome)

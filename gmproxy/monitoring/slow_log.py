"""Which requests were slow, and how late the loop is: measured on demand only, beside the latency of servers (gmproxy.backend.latency).

Nothing here reads a clock: the caller passes the time.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmproxy.protocol.request import ROLES

if TYPE_CHECKING:
    from gmproxy.protocol.request import Request

#: Slow requests that are remembered.
SLOW_KEPT = 200

#: Seconds over which the loop's lag is the longest.
LAG_WINDOW = 1.0


class SlowLog:
    """The latest slow requests of this process. `clock()` gives the unix time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[dict[str, Any]] = deque(maxlen=SLOW_KEPT)
        self._unreported: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}  # (pool, server) -> (how many, the slowest of them)

    def record_request(self, pool: str, label: str, request: "Request", seconds: float) -> None:
        """Keep what is shown of `request`, for which the server `label` of `pool` needed `seconds`. Called from the loop."""
        key = request.key if request.keys is None else request.keys[0]
        facts = {
            "pool": pool,
            "backend": label,
            "key": as_text(key),
            "command": request.command.name.decode(),
            "seconds": round(seconds, 6),
            "stage": ROLES[request.role],
            "time": self._clock(),
        }
        self._requests.append(facts)
        count, slowest = self._unreported.get((pool, label), (0, facts))
        self._unreported[pool, label] = count + 1, max(slowest, facts, key=lambda one: one["seconds"])

    def slowest(self) -> list[dict[str, Any]]:
        """The requests that are kept, the slowest first."""
        return sorted(self._requests, key=lambda facts: -facts["seconds"])

    def take_unreported(self) -> list[tuple[int, dict[str, Any]]]:
        """[(how many, the slowest of them)], for each server that had any since the last call."""
        unreported, self._unreported = list(self._unreported.values()), {}
        return unreported


class LoopLag:
    """How late the loop came to what was due, at worst, over the last LAG_WINDOW seconds."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._until = 0.0
        self._worst = [0.0, 0.0]  # of this window, and of the one before

    def observe(self, now: float, interval: float) -> None:
        """Called from the loop every `interval` seconds, or later; `now`: seconds."""
        if now >= self._until:
            self._worst = [0.0, self._worst[0]]
            self._until = now + LAG_WINDOW
        if self._last is not None:
            self._worst[0] = max(self._worst[0], now - self._last - interval)
        self._last = now

    @property
    def seconds(self) -> float:
        return max(self._worst)


def as_text(key: bytes) -> str:
    """`key` (bytes) as text that JSON can hold; what is no UTF-8 is escaped."""
    return key.decode("utf-8", "backslashreplace")

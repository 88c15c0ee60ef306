"""Which requests were slow, and how late the loop is: measured on demand only, beside the latency of servers (gmproxy.backend.latency).

Nothing here reads a clock: the caller passes the time.
"""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmproxy.protocol.request import ROLES

if TYPE_CHECKING:
    from gmproxy.protocol.request import Request

#: Slow requests that are remembered.
SLOW_KEPT = 200

#: Seconds between two lines of the log about the slow requests of one pool.
LOGGED_EVERY = 10.0

#: Seconds over which the loop's lag is the longest.
LAG_WINDOW = 1.0


@dataclasses.dataclass
class SlowSummary:
    """The slow requests of a pool since the log last had them: how many, to which servers, and the slowest of them."""

    requests: int
    servers: set[str]
    slowest: dict[str, Any]


class SlowLog:
    """The latest slow requests of this process. `clock()` gives the unix time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[dict[str, Any]] = deque(maxlen=SLOW_KEPT)
        self._unreported: dict[str, SlowSummary] = {}  # by pool
        self._reported_at: dict[str, float] = {}  # pool -> when the log last had a line about it

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
        summary = self._unreported.setdefault(pool, SlowSummary(0, set(), facts))
        summary.requests += 1
        summary.servers.add(label)
        summary.slowest = max(summary.slowest, facts, key=lambda one: one["seconds"])

    def slowest(self) -> list[dict[str, Any]]:
        """The requests that are kept, the slowest first."""
        return sorted(self._requests, key=lambda facts: -facts["seconds"])

    def take_unreported(self, now: float) -> list[SlowSummary]:
        """What is to be logged now: one for each pool that has slow requests, and had none taken in the last LOGGED_EVERY seconds. `now`:
        seconds."""
        due = [pool for pool in self._unreported if now - self._reported_at.get(pool, -LOGGED_EVERY) >= LOGGED_EVERY]
        self._reported_at.update(dict.fromkeys(due, now))
        return [self._unreported.pop(pool) for pool in due]


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

"""Slow requests, and the lag of the event loop. Slow requests are recorded only while latency is measured (gmproxy.backend.latency)."""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gmproxy.protocol.request import ROLES

if TYPE_CHECKING:
    from gmproxy.protocol.request import Request

#: Maximum number of slow requests that are kept.
SLOW_KEPT = 200

#: Seconds between two log lines about the slow requests of one pool.
LOGGED_EVERY = 10.0

#: Seconds over which the longest lag is reported.
LAG_WINDOW = 1.0


@dataclasses.dataclass
class SlowSummary:
    """The slow requests of a pool since the last log line: their number, the labels of their servers, and the slowest of them."""

    requests: int
    servers: set[str]
    slowest: dict[str, Any]


class SlowLog:
    """The latest slow requests of this process. `clock()` returns the unix time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[dict[str, Any]] = deque(maxlen=SLOW_KEPT)
        self._unreported: dict[str, SlowSummary] = {}  # by pool
        self._reported_at: dict[str, float] = {}  # pool -> time of its last log line

    def record_request(self, pool: str, label: str, request: "Request", seconds: float) -> None:
        """Record `request` of `pool`, whose reply from the server `label` took `seconds`. Loop callback or greenlet."""
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
        """The slow requests, the slowest first: [{"pool", "backend", "key", "command", "seconds", "stage", "time"}]."""
        return sorted(self._requests, key=lambda facts: -facts["seconds"])

    def take_unreported(self, now: float) -> list[SlowSummary]:
        """The summaries to log now, one for each pool with slow requests and without a summary in the last LOGGED_EVERY seconds. `now`: monotonic
        seconds."""
        due = [pool for pool in self._unreported if now - self._reported_at.get(pool, -LOGGED_EVERY) >= LOGGED_EVERY]
        self._reported_at.update(dict.fromkeys(due, now))
        return [self._unreported.pop(pool) for pool in due]


class LoopLag:
    """The longest delay of the event loop's timer in the last LAG_WINDOW seconds."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._until = 0.0
        self._worst = [0.0, 0.0]  # in this window, and in the previous one

    def observe(self, now: float, interval: float) -> None:
        """Record the delay. Called by a timer every `interval` seconds; `now`: monotonic seconds. Loop callback."""
        if now >= self._until:
            self._worst = [0.0, self._worst[0]]
            self._until = now + LAG_WINDOW
        if self._last is not None:
            self._worst[0] = max(self._worst[0], now - self._last - interval)
        self._last = now

    @property
    def seconds(self) -> float:
        """The longest delay in this window and the previous one."""
        return max(self._worst)


def as_text(key: bytes) -> str:
    """`key` as text for JSON; bytes that are not UTF-8 are escaped."""
    return key.decode("utf-8", "backslashreplace")

"""The latency of one server's replies. Nothing here reads a clock: callers pass the time, so that it is read once for a batch of replies.

All methods: loop callback or greenlet; none blocks.
"""

from array import array
from collections import deque
from collections.abc import Callable

from gmproxy import internal_errors
from gmproxy.protocol.request import Request

#: Upper bounds of the buckets of a latency histogram, in seconds; one more bucket has what is above. Each is at most 2.5 times the one before, so
#: that percentiles computed from them are not far off.
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Meter:
    """A histogram of the latency of one server.

    slow_threshold   seconds: requests that take as long or longer are passed to `on_slow`
    total            sum of all latencies, in seconds
    """

    __slots__ = ("slow_threshold", "total", "_on_slow", "_bounds", "_buckets", "_last")

    def __init__(self, slow_threshold: float, on_slow: Callable[[Request, float], None]) -> None:
        """`on_slow(request, seconds)` is called for slow requests."""
        self.slow_threshold = slow_threshold
        self._on_slow = on_slow
        self._bounds = array("d", BOUNDS)
        self._buckets = array("q", [0] * (len(BOUNDS) + 1))
        self._last = len(BOUNDS)
        self.total = 0.0

    def took(self, seconds: float, count: int) -> None:
        """Add `count` replies of `seconds` each."""
        bucket = 0
        while bucket < self._last and seconds > self._bounds[bucket]:
            bucket += 1
        self._buckets[bucket] += count
        self.total += seconds * count

    def slow(self, request: Request, seconds: float) -> None:
        """The reply to `request` took `seconds`: pass it on if that is slow."""
        if seconds >= self.slow_threshold:
            self._on_slow(request, seconds)

    def buckets(self) -> list[int]:
        """The number of replies in each bucket: one for each of BOUNDS, and one for those above."""
        return list(self._buckets)

    def reset(self) -> None:
        self.total = 0.0
        for bucket in range(len(self._buckets)):
            self._buckets[bucket] = 0


class ReplyTimer:
    """Times the replies on one connection, while its server has a Meter.

    Each flush notes the time, and how many requests were sent by then. When these have their replies, the time since the flush is their
    latency. No method raises: a failure here must not concern a request.
    """

    __slots__ = ("_flushes", "_timed", "_replied_at")

    def __init__(self) -> None:
        self._flushes: deque[tuple[float, int]] = deque()  # (time, requests sent by then on this connection), the oldest first
        self._timed = 0  # replies of this connection that the meter has counted
        self._replied_at = 0.0  # when the latest replies arrived

    def is_running(self) -> bool:
        """True while there are replies to time."""
        return len(self._flushes) > 0

    def flushed(self, now: float, replied: int, pending: int) -> None:
        """At `now` (seconds), `pending` requests wait for replies, after `replied` replies of this connection."""
        if not self._flushes:
            self._timed = replied
        self._flushes.append((now, replied + pending))

    def received(self, now: float, meter: Meter | None) -> bool:
        """Replies arrive at `now` (seconds). True if they are so late that `note_slow` must be called for each of them."""
        self._replied_at = now
        if not self._flushes:
            return False
        is_late: bool = now - self._flushes[0][0] >= meter.slow_threshold
        return is_late

    def count_replies(self, meter: Meter | None, replied: int) -> None:
        """Have `meter` count the latest replies; `replied`: replies of this connection so far. `meter`: None if measuring has ended."""
        try:
            self._count_replies(meter, replied)
        except Exception:
            self._flushes.clear()
            internal_errors.record("latency.count_replies")

    def note_slow(self, request: Request, meter: Meter | None, replied: int) -> None:
        """`request` has its reply, after `replied` others on this connection, and may be slow."""
        try:
            self._count_replies(meter, replied)
            if self._flushes:
                meter.slow(request, self._replied_at - self._flushes[0][0])
        except Exception:
            self._flushes.clear()
            internal_errors.record("latency.note_slow")

    def _count_replies(self, meter: Meter | None, replied: int) -> None:
        flushes = self._flushes
        if meter is None:
            flushes.clear()
            return
        while flushes and self._timed < replied:
            sent_at, sent = flushes[0]
            reached = min(sent, replied)
            meter.took(self._replied_at - sent_at, reached - self._timed)
            self._timed = reached
            if reached < sent:
                return
            flushes.popleft()

"""How long one server takes to reply. Nothing here reads a clock: the caller says what time it is, so that one look at the clock serves a
whole batch of replies.
"""

from array import array
from collections import deque
from collections.abc import Callable

from gmproxy import internal_errors
from gmproxy.protocol.request import Request

#: Upper bounds of the buckets of a latency histogram, seconds; what is longer falls into one more. Each is at most 2.5 times the one
#: before, so that a percentile read from them is not far off.
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Meter:
    """A histogram of the latency of one server.

    slow_threshold   seconds: requests that take longer are passed to `tell`
    total            seconds that all requests took
    """

    __slots__ = ("slow_threshold", "total", "_tell", "_bounds", "_buckets", "_last")

    def __init__(self, slow_threshold: float, tell: Callable[[Request, float], None]) -> None:
        """`tell(request, seconds)`"""
        self.slow_threshold = slow_threshold
        self._tell = tell
        self._bounds = array("d", BOUNDS)
        self._buckets = array("q", [0] * (len(BOUNDS) + 1))
        self._last = len(BOUNDS)
        self.total = 0.0

    def took(self, seconds: float, count: int) -> None:
        """`count` replies took `seconds` each."""
        bucket = 0
        while bucket < self._last and seconds > self._bounds[bucket]:
            bucket += 1
        self._buckets[bucket] += count
        self.total += seconds * count

    def slow(self, request: Request, seconds: float) -> None:
        """`request` is answered, and has perhaps taken longer than it should."""
        if seconds >= self.slow_threshold:
            self._tell(request, seconds)

    def buckets(self) -> list[int]:
        """How many replies came within each of BOUNDS, and after the last: a list."""
        return list(self._buckets)

    def reset(self) -> None:
        self.total = 0.0
        for bucket in range(len(self._buckets)):
            self._buckets[bucket] = 0


class ReplyTimer:
    """Times the replies on one connection, while its server has a Meter.

    A flush notes the time, and how many requests were sent until then. When the replies to these have come, the time since the flush is
    their latency. No method raises: what fails here concerns no request.
    """

    __slots__ = ("_flushes", "_timed", "_replied_at")

    def __init__(self) -> None:
        self._flushes = deque()  # (time, requests sent until then, in the life of the connection), the oldest first
        self._timed = 0  # replies that the meter has counted, of all in the life of the connection
        self._replied_at = 0.0  # when the latest replies came

    def is_running(self) -> bool:
        """True while there are replies to be timed."""
        return len(self._flushes) > 0

    def flushed(self, now: float, replied: int, pending: int) -> None:
        """At `now`, seconds, `pending` requests are waiting; `replied` had a reply before, in the life of the connection."""
        if not self._flushes:
            self._timed = replied
        self._flushes.append((now, replied + pending))

    def received(self, now: float, meter: Meter | None) -> bool:
        """Replies come at `now`. True if they are so late that each of them is passed to `note_slow`."""
        self._replied_at = now
        if not self._flushes:
            return False
        return now - self._flushes[0][0] >= meter.slow_threshold

    def count_replies(self, meter: Meter | None, replied: int) -> None:
        """Have `meter` count the latest replies; `replied` in the life of the connection. `meter`: None if nobody measures by now."""
        try:
            self._count_replies(meter, replied)
        except Exception:
            self._flushes.clear()
            internal_errors.record("link.measure")

    def note_slow(self, request: Request, meter: Meter | None, replied: int) -> None:
        """`request` has its reply, the next after `replied` others, and is perhaps a slow one."""
        try:
            self._count_replies(meter, replied)
            if self._flushes:
                meter.slow(request, self._replied_at - self._flushes[0][0])
        except Exception:
            self._flushes.clear()
            internal_errors.record("link.note_slow")

    def _count_replies(self, meter: Meter | None, replied: int) -> None:
        flushes = self._flushes
        if meter is None:
            flushes.clear()
            return
        while flushes and self._timed < replied:
            sent_at, asked = flushes[0]
            reached = min(asked, replied)
            meter.took(self._replied_at - sent_at, reached - self._timed)
            self._timed = reached
            if reached < asked:
                return
            flushes.popleft()

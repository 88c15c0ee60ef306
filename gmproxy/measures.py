"""What is measured only while somebody wants to know: how long servers take to answer, and how late the loop is.

Nothing here reads a clock: it is told the time.
"""

from bisect import bisect_left
from collections import deque

from gmproxy.accel import pick

STAGES = pick("message").STAGES

#: Upper bounds of the buckets of a latency histogram, seconds; what is longer falls into one more. Each is at most 2.5 times the one
#: before, so that a percentile read from them is not far off.
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

#: Slow requests that are remembered.
SLOW_KEPT = 200

#: The loop's lag is the longest of the last so many seconds.
LAG_WINDOW = 1.0


class Meter:
    """How long one server takes to answer.

    slow_threshold   requests that take so many seconds are told to `slow`
    buckets          how many replies came within each of BOUNDS, and after the last
    total            seconds that all of them took
    """

    __slots__ = ("slow_threshold", "buckets", "total", "_pool", "_label", "_slow")

    def __init__(self, pool, label, slow_threshold, slow):
        """`pool` and `label`: whose it is. `slow`: gmproxy.measures.Slow"""
        self._pool = pool
        self._label = label
        self._slow = slow
        self.slow_threshold = slow_threshold
        self.reset()

    def reset(self):
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def took(self, seconds, count):
        """`count` replies took `seconds` each."""
        self.buckets[bisect_left(BOUNDS, seconds)] += count
        self.total += seconds * count

    def slow(self, request, seconds):
        """`request` is answered, and has perhaps taken longer than it should."""
        if seconds >= self.slow_threshold:
            self._slow.note(self._pool, self._label, request, seconds)


class Slow:
    """The latest slow requests of this process. `clock()` gives the unix time."""

    def __init__(self, clock):
        self._clock = clock
        self._requests = deque(maxlen=SLOW_KEPT)
        self._untold = {}  # (pool, server) -> [how many, the slowest of them], since `untold` was asked

    def note(self, pool, label, request, seconds):
        facts = {
            "pool": pool, "backend": label, "key": as_text(request.key), "command": request.verb.name.decode(),
            "seconds": round(seconds, 6), "stage": STAGES[request.stage], "time": self._clock(),
        }
        self._requests.append(facts)
        untold = self._untold.setdefault((pool, label), [0, facts])
        untold[0] += 1
        if facts["seconds"] > untold[1]["seconds"]:
            untold[1] = facts

    def slowest(self):
        """The slowest first."""
        return sorted(self._requests, key=lambda facts: -facts["seconds"])

    def untold(self):
        """[(how many, the slowest of them)], for each server that had any since this was asked."""
        told, self._untold = list(self._untold.values()), {}
        return told


class Lag:
    """How late the loop came to what was due, at worst, over the last LAG_WINDOW seconds."""

    def __init__(self):
        self._last = None
        self._until = 0.0
        self._worst = [0.0, 0.0]  # of this window, and of the one before

    def tick(self, now, interval):
        """Called every `interval` seconds, or later."""
        if now >= self._until:
            self._worst = [0.0, self._worst[0]]
            self._until = now + LAG_WINDOW
        if self._last is not None:
            self._worst[0] = max(self._worst[0], now - self._last - interval)
        self._last = now

    @property
    def seconds(self):
        return max(self._worst)


def as_text(key):
    """`key` (bytes) as text that JSON can hold; what is no UTF-8 is escaped."""
    return key.decode("utf-8", "backslashreplace")

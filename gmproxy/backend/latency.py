"""How long one server takes to answer. Hot: it hears of every batch of replies. It reads no clock, it is told the time."""

from array import array

#: Upper bounds of the buckets of a latency histogram, seconds; what is longer falls into one more. Each is at most 2.5 times the one
#: before, so that a percentile read from them is not far off.
BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Meter:
    """
    slow_threshold   requests that take so many seconds are told to `tell`
    total            seconds that all requests took
    """

    __slots__ = ("slow_threshold", "total", "_tell", "_bounds", "_buckets", "_last")

    def __init__(self, slow_threshold, tell):
        """`tell(request, seconds)`"""
        self.slow_threshold = slow_threshold
        self._tell = tell
        self._bounds = array("d", BOUNDS)
        self._buckets = array("q", [0] * (len(BOUNDS) + 1))
        self._last = len(BOUNDS)
        self.total = 0.0

    def took(self, seconds, count):
        """`count` replies took `seconds` each."""
        bucket = 0
        while bucket < self._last and seconds > self._bounds[bucket]:
            bucket += 1
        self._buckets[bucket] += count
        self.total += seconds * count

    def slow(self, request, seconds):
        """`request` is answered, and has perhaps taken longer than it should."""
        if seconds >= self.slow_threshold:
            self._tell(request, seconds)

    def buckets(self):
        """How many replies came within each of BOUNDS, and after the last: a list."""
        return list(self._buckets)

    def reset(self):
        self.total = 0.0
        for bucket in range(len(self._buckets)):
            self._buckets[bucket] = 0

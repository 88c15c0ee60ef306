"""What is measured only while somebody wants to know, beside what meter.py does: which requests were slow, and how late the loop is.

Nothing here reads a clock: it is told the time.
"""

from collections import deque

from gmproxy.protocol.request import ROLES

#: Slow requests that are remembered.
SLOW_KEPT = 200

#: The loop's lag is the longest of the last so many seconds.
LAG_WINDOW = 1.0


class Slow:
    """The latest slow requests of this process. `clock()` gives the unix time."""

    def __init__(self, clock):
        self._clock = clock
        self._requests = deque(maxlen=SLOW_KEPT)
        self._untold = {}  # (pool, server) -> [how many, the slowest of them], since `untold` was asked

    def note(self, pool, label, request, seconds):
        key = request.key if request.keys is None else request.keys[0]
        facts = {
            "pool": pool, "backend": label, "key": as_text(key), "command": request.command.name.decode(),
            "seconds": round(seconds, 6), "stage": ROLES[request.role], "time": self._clock(),
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

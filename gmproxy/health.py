"""Is a backend to be trusted with requests? A pure machine: it is told what happened and when, it does nothing itself.

    up --failures in a row reach the limit--> ejected --probe succeeds--> up

While ejected nothing is sent but probes: one after `first_delay`, then each twice as late as the one before, up to `longest_delay`, with a
random part so that many proxies do not probe in step. Live traffic is never the probe.
"""

import random

FIRST_PROBE_DELAY = 0.2  # seconds from ejection to the first probe
JITTER = 0.25            # a delay is up to this part longer or shorter


class Health:
    """
    failures     in a row, since the last success
    ejected      True while only probes may be sent
    probe_at     when the next probe is due (monotonic seconds; only while ejected)
    """

    __slots__ = ("failure_limit", "longest_delay", "failures", "ejected", "ejected_at", "probe_at", "_delay")

    def __init__(self, failure_limit, longest_delay):
        self.failure_limit = failure_limit
        self.longest_delay = longest_delay
        self.failures = 0
        self.ejected = False
        self.ejected_at = 0.0
        self.probe_at = 0.0
        self._delay = 0.0

    def failed(self, now, count=1):
        """`count` requests failed at once. Returns True if this ejects the backend."""
        self.failures += count
        if self.ejected or self.failures < self.failure_limit:
            return False
        self.ejected = True
        self.ejected_at = now
        self._delay = FIRST_PROBE_DELAY
        self._schedule(now)
        return True

    def succeeded(self):
        self.failures = 0

    def probe_is_due(self, now):
        return self.ejected and now >= self.probe_at

    def probe_failed(self, now):
        self._delay = min(self._delay * 2, self.longest_delay)
        self._schedule(now)

    def restored(self):
        """A probe succeeded."""
        self.ejected = False
        self.failures = 0

    def _schedule(self, now):
        self.probe_at = now + self._delay * (1 + random.uniform(-JITTER, JITTER))

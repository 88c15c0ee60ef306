"""One unit for every wait in the tests. A slow machine sets GMPROXY_TEST_TICK=3 and everything waits three times as long."""

import os
import time

#: Seconds. The shortest time in which two things that follow at once are surely seen one after the other.
TICK = 0.05 * float(os.environ.get("GMPROXY_TEST_TICK", "1"))

#: How long to wait for what must happen. It is only spent by a test that fails.
PATIENCE = 200 * TICK

#: How long nothing must happen before we believe that nothing will.
QUIET = 2 * TICK

#: Between two looks at something that will change.
_GLANCE = TICK / 10


def eventually(predicate, within=PATIENCE, what=""):
    """Wait until `predicate()` is true, and return what it gave."""
    deadline = time.monotonic() + within
    while True:
        result = predicate()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within:.1f} s: {what or predicate}"
        time.sleep(_GLANCE)


def milliseconds(ticks):
    """So many ticks as an option of the proxy wants them."""
    return str(max(1, round(ticks * TICK * 1000)))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self._start

"""The times of all waits in the tests. Slow hosts set GMPROXY_TEST_TICK=3: then all of them are three times as long."""

import os
import time

#: Seconds. The shortest time by which two events must differ so that a test sees their order.
TICK = 0.05 * float(os.environ.get("GMPROXY_TEST_TICK", "1"))

#: Timeout for what must happen, seconds. Only a test that fails waits that long.
PATIENCE = 200 * TICK

#: Timeout for the end of another program, seconds: a compiler, a checker, an interpreter with a client library.
PROGRAM_TIMEOUT = 12 * PATIENCE

#: Seconds without an event after which a test assumes that none will follow.
QUIET = 2 * TICK

#: Seconds between two checks of a condition.
_GLANCE = TICK / 10


def eventually(predicate, within=PATIENCE, what=""):
    """Wait until `predicate()` is true, and return its result. Fails the test after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        result = predicate()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within:.1f} s: {what or predicate}"
        time.sleep(_GLANCE)


def join(thread, within=3 * PATIENCE):
    """Wait until `thread` (a threading.Thread) has ended; fails the test after `within` seconds. The thread itself may wait for PATIENCE."""
    thread.join(within)
    assert not thread.is_alive(), f"not within {within:.1f} s: the end of {thread}"


def wait_for_child(pid, within=PATIENCE):
    """Wait for the end of the child process `pid`. Returns (pid, status) as os.waitpid does."""

    def ended():
        found, status = os.waitpid(pid, os.WNOHANG)
        return (found, status) if found else None

    return eventually(ended, within, f"the end of process {pid}")


def milliseconds(ticks):
    """The duration of `ticks` ticks as the value of an option, in milliseconds."""
    return str(max(1, round(ticks * TICK * 1000)))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.monotonic()

    @property
    def seconds(self):
        return time.monotonic() - self._start

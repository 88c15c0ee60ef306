"""Waits for tests that run in the event loop of the code under test. Other tests use support.timing."""

import gevent

from support.timing import PATIENCE, TICK


def wait_until(predicate, what=""):
    """Run the loop until `predicate()` is true, and return its result. Fails the test after PATIENCE."""
    with gevent.Timeout(PATIENCE, AssertionError(f"not within {PATIENCE:.1f} s: {what or predicate}")):
        while not (result := predicate()):
            gevent.sleep(TICK / 50)
    return result


def run_callbacks():
    """Run all callbacks that are waiting in the loop."""
    gevent.sleep(0)

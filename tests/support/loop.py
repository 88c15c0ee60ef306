"""Waits for tests that run in the event loop of the code under test. Others use support.timing."""

import gevent

from support.timing import PATIENCE, TICK


def wait_until(predicate, what=""):
    """Let the loop run until `predicate()` is true, and return what it gave. Fails the test after PATIENCE."""
    with gevent.Timeout(PATIENCE, AssertionError(f"not within {PATIENCE:.1f} s: {what or predicate}")):
        while not (result := predicate()):
            gevent.sleep(TICK / 50)
    return result


def run_callbacks():
    """Let the loop run all callbacks that it has been given so far."""
    gevent.sleep(0)

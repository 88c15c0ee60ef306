"""One listing of keys at a time for each server, among processes that share the locks since the fork."""

import os

from support.timing import wait_for_child

from gmproxy.process.dump_locks import DumpLocks


def in_another_process(function):
    """Whether `function()` returns a true value in a child of this process."""
    child = os.fork()
    if child == 0:
        os._exit(1 if function() else 0)
    return os.waitstatus_to_exitcode(wait_for_child(child)[1]) == 1


def test_one_at_a_time_in_a_process_and_among_several():
    locks = DumpLocks()
    assert locks.acquire("a:1")
    assert not locks.acquire("a:1")
    assert locks.acquire("b:1"), "another server is another matter"
    locks_of_child = locks
    assert not in_another_process(lambda: (locks_of_child._own.clear(), locks_of_child.acquire("a:1"))[1])
    locks.release("a:1")
    assert in_another_process(lambda: (locks_of_child._own.clear(), locks_of_child.acquire("a:1"))[1])
    assert locks.acquire("a:1"), "the other process has ended, and its lock with it"


def test_a_rest_is_for_all():
    locks = DumpLocks()
    assert locks.acquire("a:1")
    locks.release("a:1", rest=60.0)
    assert not locks.acquire("a:1")
    assert not in_another_process(lambda: locks.acquire("a:1"))
    assert locks.acquire("b:1")

"""An internal error is counted, logged with its traceback, and goes no further."""

import logging
import subprocess
import sys

import pytest
from support.servers import environment

from gmproxy import internal_errors
from gmproxy.errors import StartError


@pytest.fixture
def records():
    """The records that gmproxy logs."""
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    log = logging.getLogger("gmproxy")
    log.addHandler(handler)
    yield kept
    log.removeHandler(handler)


def fail():
    raise KeyError("x")


def test_it_is_counted_and_logged_with_its_traceback(records, internal_errors_counted):
    try:
        fail()
    except KeyError:
        internal_errors.record("link.take")
    assert internal_errors_counted() == 1
    assert records[0].getMessage() == "internal error where=link.take"
    assert records[0].exc_info[0] is KeyError


def test_a_guarded_call_returns_what_it_returns_and_never_raises(records, internal_errors_counted):
    assert internal_errors.guarded("place", lambda one, two: one + two)(1, two=2) == 3
    assert internal_errors.guarded("place", fail)() is None
    assert internal_errors_counted() == len(records) == 1


def test_what_ends_a_greenlet_is_no_error(internal_errors_counted):
    def end():
        raise SystemExit

    with pytest.raises(SystemExit):
        internal_errors.guarded("place", end)()
    assert internal_errors_counted() == 0


def test_a_log_that_fails_changes_nothing(internal_errors_counted):
    handler = logging.Handler()
    handler.emit = lambda record: fail()
    log = logging.getLogger("gmproxy")
    log.addHandler(handler)
    try:
        internal_errors.guarded("place", fail)()
    finally:
        log.removeHandler(handler)
    assert internal_errors_counted() == 1


IN_A_WORKER = """
import gevent
from gmproxy import internal_errors
from gmproxy.process import worker

def fail():
    raise KeyError("x")

def run_out():
    raise gevent.Timeout(1)

hub = gevent.get_hub()
hub.print_exception = worker._record_exception
gevent.spawn(fail).join()
gevent.spawn(run_out).join()
hub.loop.run_callback(fail)
gevent.sleep(0)
print(internal_errors.count())
again = gevent.spawn(worker.every, 0.001, fail)
while internal_errors.count() < 6:
    gevent.sleep(0.001)
again.kill()
"""


def test_what_a_greenlet_does_not_catch_is_recorded_and_not_printed():
    done = subprocess.run([sys.executable, "-c", IN_A_WORKER], capture_output=True, text=True, timeout=60, env=environment())
    assert done.stdout == "3\n"
    assert "failed with" not in done.stderr  # gevent's message


def test_each_step_is_attempted(caplog, internal_errors_counted):
    made = []
    attempts = internal_errors.Attempts("here")
    attempts.make(made.append, 1)
    attempts.make({}.__getitem__, "absent")
    attempts.make(made.append, 2)
    assert made == [1, 2] and internal_errors_counted() == 1
    assert "internal error where=here" in caplog.text
    with pytest.raises(StartError, match="internal error: KeyError"):
        attempts.end()


def test_no_failed_step_no_error():
    attempts = internal_errors.Attempts("here")
    attempts.make(int, "1")
    attempts.end()

"""Probes of a server that fails or is ejected: what each result means for its health, and that an internal error in gmproxy has none."""

from time import monotonic

import gevent
import pytest
from support.checked import Checked, fails_with
from support.loop import wait_until

from gmproxy.backend.health import EJECTED, PROBING
from gmproxy.errors import CONNECTING, OVERLOAD, TIMEOUT, BackendError, LocalError


@pytest.fixture
def checked():
    return Checked()


def wait_until_due(checked):
    wait_until(lambda: checked.backend.health.probe_is_due(monotonic()), "the next probe")


def test_a_probe_that_is_answered_restores(checked):
    checked.backend.health.failed(monotonic(), 3)
    wait_until_due(checked)
    checked.tick(monotonic())
    assert checked.backend.reports == ["restored"]


def test_a_probe_in_vain_that_ejects_is_announced(checked):
    checked.backend.health.failed(monotonic(), 2, hangs=True)
    checked.connection.meanwhile = fails_with(BackendError(TIMEOUT, "no reply to version"))
    checked.tick(monotonic())
    assert checked.backend.reports == [f"ejected {TIMEOUT}"]


@pytest.mark.parametrize("fault", [ValueError("a fault of the test"), AssertionError()])
def test_a_fault_of_our_own_in_a_probe_is_recorded_and_has_no_result(checked, internal_errors_counted, fault):
    """Whatever is raised, wherever: it does not count against the server, and the server is probed again."""
    checked.backend.health.failed(monotonic(), 2, hangs=True)
    checked.connection.meanwhile = fails_with(fault)
    for number in range(1, 4):
        wait_until_due(checked)
        checked.tick(monotonic())
        assert (internal_errors_counted(), checked.backend.reports, checked.backend.health.failures) == (number, [], 2)
    checked.connection.meanwhile = lambda connection: None
    wait_until_due(checked)
    checked.tick(monotonic())
    assert not checked.backend.health.probe_is_due(monotonic() + 1000)


def test_an_ejected_server_is_probed_again_after_a_fault_of_our_own(checked, internal_errors_counted):
    checked.backend.health.failed(monotonic(), 3)
    checked.connection.meanwhile = fails_with(ValueError("a fault of the test"))
    wait_until_due(checked)
    checked.tick(monotonic())
    assert internal_errors_counted() == 1
    checked.connection.meanwhile = lambda connection: None
    wait_until_due(checked)
    checked.tick(monotonic())
    assert checked.backend.reports == ["restored"]


def test_a_probe_that_is_ended_from_outside(checked):
    checked.backend.health.failed(monotonic(), 3)
    checked.connection.meanwhile = lambda connection: gevent.sleep(3600)
    wait_until_due(checked)
    checked.checker.tick(monotonic())
    gevent.sleep(0)
    assert checked.backend.health.state(monotonic()) == PROBING
    checked.checker._at_work.kill()
    assert checked.backend.health.state(monotonic()) == EJECTED
    wait_until_due(checked)


@pytest.mark.parametrize("lack", [LocalError(OVERLOAD, "Too many open files"), LocalError(CONNECTING, "name: no answer")])
def test_a_probe_that_cannot_be_made_has_no_result(checked, internal_errors_counted, lack):
    checked.backend.health.failed(monotonic(), 2, hangs=True)
    checked.connection.meanwhile = fails_with(lack)
    for _ in range(3):
        wait_until_due(checked)
        checked.tick(monotonic())
    assert (internal_errors_counted(), checked.backend.reports, checked.backend.health.failures) == (0, [], 2)


def test_a_fault_of_our_own_while_catching_up(checked, internal_errors_counted):
    """It is recorded, the keys are kept, and the attempt is repeated after some time."""
    checked.backend.misses(b"a")
    checked.connection.meanwhile = fails_with(ValueError("a fault of the test"))
    checked.tick(monotonic())
    checked.tick(monotonic())
    assert internal_errors_counted() == 1 and checked.backend.behind and b"a" in checked.backend.invalidations
    checked.connection.meanwhile = lambda connection: None
    wait_until(lambda: checked.tick(monotonic()) or not checked.backend.behind)

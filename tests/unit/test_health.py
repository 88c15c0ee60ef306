"""The health of a backend: every transition, with time as an argument."""

import pytest

from gmproxy.health import FIRST_PROBE_DELAY, JITTER, Health

LIMIT = 3
LONGEST = 10.0
NOW = 1000.0


@pytest.fixture
def health():
    return Health(LIMIT, LONGEST)


@pytest.fixture
def ejected(health):
    for _ in range(LIMIT):
        health.failed(NOW)
    return health


def is_about(value, expected):
    return expected * (1 - JITTER) <= value <= expected * (1 + JITTER)


def test_up(health):
    assert not health.ejected
    assert not health.probe_is_due(NOW)


def test_failures_in_a_row_eject(health):
    assert [health.failed(NOW) for _ in range(LIMIT)] == [False, False, True]
    assert health.ejected
    assert health.ejected_at == NOW


def test_failures_that_come_together_count_each(health):
    assert health.failed(NOW, LIMIT) is True


def test_a_success_in_between_begins_anew(health):
    health.failed(NOW, LIMIT - 1)
    health.succeeded()
    assert health.failed(NOW, LIMIT - 1) is False
    assert not health.ejected


def test_it_is_ejected_only_once(ejected):
    assert ejected.failed(NOW + 1) is False
    assert ejected.ejected_at == NOW


def test_a_late_success_does_not_restore(ejected):
    """Live traffic is never the probe."""
    ejected.succeeded()
    assert ejected.ejected


def test_the_first_probe(ejected):
    assert is_about(ejected.probe_at - NOW, FIRST_PROBE_DELAY)
    assert not ejected.probe_is_due(ejected.probe_at - 0.001)
    assert ejected.probe_is_due(ejected.probe_at)


def test_each_probe_is_twice_as_late_up_to_the_longest_delay(ejected):
    now = NOW
    expected = FIRST_PROBE_DELAY
    for _ in range(12):
        now = ejected.probe_at
        ejected.probe_failed(now)
        expected = min(expected * 2, LONGEST)
        assert is_about(ejected.probe_at - now, expected)
        assert ejected.ejected
    assert expected == LONGEST


def test_many_proxies_do_not_probe_in_step():
    times = set()
    for _ in range(20):
        health = Health(1, LONGEST)
        health.failed(NOW)
        times.add(health.probe_at)
    assert len(times) > 1


def test_a_probe_that_succeeds_restores(ejected):
    ejected.probe_failed(NOW)
    ejected.restored()
    assert not ejected.ejected
    assert not ejected.probe_is_due(NOW + 1000)


def test_restored_it_takes_as_many_failures_and_begins_with_the_first_delay(ejected):
    for _ in range(5):
        ejected.probe_failed(NOW)
    ejected.restored()
    assert [ejected.failed(NOW + 9) for _ in range(LIMIT)] == [False, False, True]
    assert ejected.ejected_at == NOW + 9
    assert is_about(ejected.probe_at - NOW - 9, FIRST_PROBE_DELAY)


def test_a_longest_delay_below_the_first():
    health = Health(1, 0.05)
    health.failed(NOW)
    health.probe_failed(NOW)
    assert is_about(health.probe_at - NOW, 0.05)

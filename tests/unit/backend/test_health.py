"""The health of a backend: every transition, with time as an argument."""

import pytest

from gmproxy.backend.health import (
    EJECTED,
    FAILING,
    FIRST_PROBE_DELAY,
    JITTER,
    MISSES_WITHOUT_RESULT,
    PROBING,
    STEADY,
    TIME_WITHOUT_RESULT,
    UP,
    WARMING,
    Health,
)

LIMIT = 3
LONGEST = 10.0
NOW = 1000.0
HOUR = 3600


@pytest.fixture
def health():
    health = Health(LIMIT, LONGEST, HOUR)
    health.age_known(NOW, 2 * HOUR)
    return health


@pytest.fixture
def ejected(health):
    for _ in range(LIMIT):
        health.failed(NOW)
    return health


def is_about(value, expected):
    """The delay is shortened at random, and never longer."""
    return expected * (1 - JITTER) - 1e-9 <= value <= expected + 1e-9


# -- failures


def test_up(health):
    assert health.state(NOW) == UP
    assert not health.probe_is_due(NOW)


def test_failures_in_a_row_eject(health):
    states = []
    for _ in range(LIMIT):
        states.append((health.failed(NOW), health.state(NOW)))
    assert states == [(False, FAILING), (False, FAILING), (True, EJECTED)]
    assert (health.ejected_at, health.ejections) == (NOW, 1)


def test_failures_that_come_together_count_each(health):
    assert health.failed(NOW, LIMIT) is True


def test_a_success_in_between_begins_anew(health):
    health.failed(NOW, LIMIT - 1)
    health.succeeded()
    assert health.state(NOW) == UP
    assert health.failed(NOW, LIMIT - 1) is False
    assert health.state(NOW) == FAILING


def test_it_is_ejected_only_once(ejected):
    assert ejected.failed(NOW + 1) is False
    assert (ejected.ejected_at, ejected.ejections) == (NOW, 1)


def test_a_late_success_does_not_restore(ejected):
    """Only a probe restores it, not a reply to a client's request."""
    ejected.succeeded()
    assert ejected.state(NOW) == EJECTED


# -- probes


def test_the_first_probe(ejected):
    assert is_about(ejected.probe_at - NOW, FIRST_PROBE_DELAY)
    assert not ejected.probe_is_due(ejected.probe_at - 0.001)
    assert ejected.probe_is_due(ejected.probe_at)


def test_one_probe_at_a_time(ejected):
    ejected.probe_started(NOW)
    assert ejected.state(NOW) == PROBING
    assert not ejected.probe_is_due(NOW + 1000)


def test_each_probe_is_twice_as_late_up_to_the_longest_delay(ejected):
    expected = FIRST_PROBE_DELAY
    for _ in range(12):
        now = ejected.probe_at
        ejected.probe_started(now)
        assert ejected.probe_failed(now) is False
        expected = min(expected * 2, LONGEST)
        assert is_about(ejected.probe_at - now, expected)
        assert ejected.state(now) == EJECTED
    assert expected == LONGEST


def test_the_time_between_two_probes_is_never_exceeded():
    """From one probe to the next, however long the first one takes, and from the ejection to the first probe."""
    for longest in (0.05, 0.15, 1.0):
        health = Health(1, longest)
        health.failed(NOW)
        assert health.probe_at - NOW <= longest
        for _ in range(50):
            began = health.probe_at
            health.probe_started(began)
            health.probe_failed(began + longest / 2)
            assert health.probe_at - began <= longest


def test_a_shorter_time_between_two_probes_holds_at_once(ejected):
    """As after a reload."""
    for _ in range(10):
        ejected.probe_started(NOW)
        ejected.probe_failed(NOW)
    assert ejected.probe_at - NOW > 1.0
    ejected.probe_within(1.0, NOW)
    assert ejected.probe_at - NOW <= 1.0
    ejected.probe_started(NOW)
    ejected.probe_failed(NOW)
    assert ejected.probe_at - NOW <= 1.0


def test_a_probe_that_could_not_be_made_has_no_result(ejected):
    """The next probe follows after the same delay as before."""
    for _ in range(5):
        ejected.probe_started(NOW)
        assert ejected.state(NOW) == PROBING
        ejected.probe_void(NOW)
        assert ejected.state(NOW) == EJECTED
        assert not ejected.probe_is_due(NOW)
        assert is_about(ejected.probe_at - NOW, FIRST_PROBE_DELAY)


def test_a_probe_that_has_a_result_is_not_void(ejected):
    ejected.probe_started(NOW)
    ejected.probe_failed(NOW)
    due = ejected.probe_at
    ejected.probe_void(NOW)
    assert ejected.probe_at == due


def test_a_suspected_server_that_could_not_be_probed(health):
    health.failed(NOW, hangs=True)
    health.probe_started(NOW)
    health.probe_void(NOW)
    assert health.failures == 1
    assert not health.probe_is_due(NOW)
    assert health.probe_is_due(NOW + FIRST_PROBE_DELAY)


def test_many_proxies_do_not_probe_in_step():
    times = set()
    for _ in range(20):
        health = Health(1, LONGEST)
        health.failed(NOW)
        times.add(health.probe_at)
    assert len(times) > 1


def test_a_probe_that_succeeds_restores(ejected):
    ejected.probe_started(NOW)
    ejected.probe_succeeded(NOW)
    assert ejected.state(NOW) == UP
    assert not ejected.probe_is_due(NOW + 1000)
    assert [ejected.failed(NOW + 9) for _ in range(LIMIT)] == [False, False, True]


def test_a_longest_delay_below_the_first():
    health = Health(1, 0.05)
    health.failed(NOW)
    health.probe_failed(NOW)
    assert is_about(health.probe_at - NOW, 0.05)


# -- flapping


def delay_of_first_probe_after(health, steady_for):
    """It was ejected for a long time, is restored, and fails again after `steady_for` seconds."""
    for _ in range(3):
        health.probe_failed(NOW)
    health.probe_succeeded(NOW)
    now = NOW + steady_for
    health.failed(now, LIMIT)
    return health.probe_at - now


def test_a_flapping_server_is_held_out_longer(ejected):
    assert is_about(delay_of_first_probe_after(ejected, 1.0), FIRST_PROBE_DELAY * 2**4)


def test_a_server_that_was_steady_begins_anew(ejected):
    assert is_about(delay_of_first_probe_after(ejected, STEADY), FIRST_PROBE_DELAY)


def test_a_flapping_server_is_not_held_out_for_ever(ejected):
    now = NOW
    for _ in range(20):
        ejected.probe_succeeded(now)
        ejected.failed(now, LIMIT)
        assert ejected.probe_at - now <= LONGEST


# -- a server that may hang


def test_a_server_that_hangs_is_probed_at_once(health):
    health.failed(NOW, hangs=True)
    assert health.probe_is_due(NOW)


def test_a_server_that_fails_otherwise_is_not(health):
    health.failed(NOW)
    assert not health.probe_is_due(NOW + 1000)


def test_probes_in_vain_are_failures(health):
    health.failed(NOW, hangs=True)
    outcomes = []
    for _ in range(LIMIT - 1):
        assert health.probe_is_due(NOW)
        health.probe_started(NOW)
        outcomes.append(health.probe_failed(NOW))
    assert outcomes == [False, True]
    assert health.state(NOW) == EJECTED
    assert is_about(health.probe_at - NOW, FIRST_PROBE_DELAY)


def test_an_answer_ends_the_suspicion_but_forgives_nothing(health):
    health.failed(NOW, LIMIT - 1, hangs=True)
    health.probe_started(NOW)
    health.probe_succeeded(NOW)
    assert not health.probe_is_due(NOW)
    assert health.failed(NOW) is True


def test_an_answered_request_ends_the_suspicion(health):
    health.failed(NOW, hangs=True)
    health.succeeded()
    assert not health.probe_is_due(NOW)


def test_a_suspect_is_probed_at_once_and_has_not_failed(health):
    health.suspect(NOW)
    assert health.probe_is_due(NOW)
    assert (health.failures, health.state(NOW)) == (0, UP)


def test_a_probe_in_vain_of_a_suspect_is_a_failure(health):
    health.suspect(NOW)
    outcomes = []
    for _ in range(LIMIT):
        assert health.probe_is_due(NOW)
        health.probe_started(NOW)
        outcomes.append(health.probe_failed(NOW))
    assert outcomes == [False, False, True]


def test_a_suspect_that_answers_is_none(health):
    health.suspect(NOW)
    health.probe_started(NOW)
    health.probe_succeeded(NOW)
    assert not health.probe_is_due(NOW + 1000)


def test_clients_cannot_have_a_server_probed_without_a_pause(health):
    """A client that can cause a reply that gmproxy does not understand can repeat that all the time."""
    health.suspect(NOW)
    health.probe_started(NOW)
    health.probe_succeeded(NOW)
    health.suspect(NOW)
    assert not health.probe_is_due(NOW)
    assert health.probe_is_due(NOW + FIRST_PROBE_DELAY)


def test_an_ejected_server_is_not_suspected(ejected):
    ejected.suspect(NOW)
    assert not ejected.probe_is_due(NOW)
    ejected.probe_started(NOW)
    assert ejected.probe_failed(NOW) is False


# -- warming


def test_of_unknown_age_it_is_warming():
    health = Health(LIMIT, LONGEST, HOUR)
    assert health.state(NOW) == WARMING
    health.age_known(NOW, 10)
    assert health.state(NOW) == WARMING
    assert health.state(NOW + HOUR - 10) == UP


def test_it_may_have_become_another_process(health):
    health.age_unknown()
    assert health.state(NOW) == WARMING
    health.age_known(NOW, 2 * HOUR)
    assert health.state(NOW) == UP


def test_with_holes_it_is_warming_however_old(health):
    health.has_holes(NOW)
    health.age_unknown()
    health.age_known(NOW, 2 * HOUR)
    assert health.state(NOW + HOUR - 1) == WARMING
    assert health.state(NOW + HOUR) == UP


def test_failing_counts_more_than_warming(health):
    health.has_holes(NOW)
    health.failed(NOW)
    assert health.state(NOW) == FAILING


def test_warm_when_the_backups_have_nothing_to_add(health):
    health.has_holes(NOW)
    health.record_misses(NOW, MISSES_WITHOUT_RESULT, 0)
    health.record_misses(NOW + TIME_WITHOUT_RESULT - 1, 1, 0)
    assert health.is_warming(NOW + TIME_WITHOUT_RESULT - 1)
    health.record_misses(NOW + TIME_WITHOUT_RESULT, 1, 0)
    assert not health.is_warming(NOW + TIME_WITHOUT_RESULT)


def test_a_few_misses_prove_nothing(health):
    health.has_holes(NOW)
    health.record_misses(NOW, 1, 0)
    health.record_misses(NOW + TIME_WITHOUT_RESULT, MISSES_WITHOUT_RESULT - 2, 0)
    assert health.is_warming(NOW + TIME_WITHOUT_RESULT)


def test_each_find_begins_anew(health):
    health.has_holes(NOW)
    health.record_misses(NOW, MISSES_WITHOUT_RESULT, 0)
    health.record_misses(NOW + TIME_WITHOUT_RESULT, MISSES_WITHOUT_RESULT, 1)
    health.record_misses(NOW + TIME_WITHOUT_RESULT + 1, MISSES_WITHOUT_RESULT, 0)
    assert health.is_warming(NOW + TIME_WITHOUT_RESULT + 1)


def test_of_unknown_age_it_stays_warming(health):
    health.age_unknown()
    health.record_misses(NOW, MISSES_WITHOUT_RESULT, 0)
    health.record_misses(NOW + TIME_WITHOUT_RESULT, 1, 0)
    assert health.is_warming(NOW + TIME_WITHOUT_RESULT)


# -- together with other workers


def test_ejected_by_another_worker(health):
    """It is probed as if this worker had ejected it."""
    health.failed(NOW, 1, True)
    health.ejected_elsewhere(NOW)
    assert (health.state(NOW), health.ejected_at, health.ejections) == (EJECTED, NOW, 1)
    assert is_about(health.probe_at - NOW, FIRST_PROBE_DELAY) and not health.probe_is_due(NOW)
    assert not health.failed(NOW, LIMIT), "it is ejected once"


def test_restored_by_another_worker(ejected):
    ejected.restored_elsewhere(NOW + 5)
    assert (ejected.state(NOW + 5), ejected.failures, ejected.restored_at) == (UP, 0, NOW + 5)
    assert not ejected.probe_is_due(NOW + HOUR)
    for _ in range(LIMIT):
        ejected.failed(NOW + 6)
    assert ejected.probe_at - (NOW + 6) > FIRST_PROBE_DELAY, "it is flapping here as well"


def test_a_restoration_elsewhere_ends_an_ejection_by_hand(health):
    health.eject_by_hand(NOW)
    health.restored_elsewhere(NOW + 1)
    assert health.state(NOW + 1) == UP
    for _ in range(LIMIT):
        health.failed(NOW + 2)
    assert health.probe_is_due(NOW + HOUR)


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_probe_under_way_when_another_worker_restores_it(ejected, succeeds):
    ejected.probe_started(NOW + 1)
    ejected.restored_elsewhere(NOW + 2)
    if succeeds:
        ejected.probe_succeeded(NOW + 3)
    else:
        assert not ejected.probe_failed(NOW + 3)
    assert ejected.state(NOW + 3) == UP and not ejected.probe_is_due(NOW + HOUR)


def test_a_probe_of_a_suspect_under_way_when_another_worker_ejects_it(health):
    health.suspect(NOW)
    health.probe_started(NOW)
    health.ejected_elsewhere(NOW + 1)
    assert not health.probe_failed(NOW + 2), "it is ejected already"
    assert health.state(NOW + 2) == EJECTED and health.probe_is_due(NOW + HOUR)

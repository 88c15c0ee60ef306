"""A clock that stands still while the process does not run."""

import re
from pathlib import Path

import pytest
from support.clock import ManualClock

import gmproxy
from gmproxy.system.clock import INTERVALS_COUNTED, RunningClock

INTERVAL = 0.05


@pytest.fixture
def time():
    return ManualClock()


@pytest.fixture
def clock(time):
    return RunningClock(time)


def test_without_ticks_all_time_counts(clock, time):
    before = clock.now()
    time.now += 3600
    assert clock.now() == before + 3600


def test_ticks_in_time_change_nothing(clock, time):
    before = clock.advance(INTERVAL)
    for _ in range(100):
        time.now += INTERVAL * 1.5
        clock.advance(INTERVAL)
    assert clock.now() == pytest.approx(before + 100 * INTERVAL * 1.5)


def test_a_pause_does_not_count(clock, time):
    """Neither while it lasts nor afterwards. Only the time until it is detected as a pause counts."""
    before = clock.advance(INTERVAL)
    time.now += 1.5
    assert clock.now() == pytest.approx(before + INTERVAL * INTERVALS_COUNTED)
    assert clock.advance(INTERVAL) == clock.now() == pytest.approx(before + INTERVAL * INTERVALS_COUNTED)
    time.now += INTERVAL
    assert clock.advance(INTERVAL) == pytest.approx(before + INTERVAL * INTERVALS_COUNTED + INTERVAL)


def test_it_never_goes_back(clock, time):
    seen = [clock.advance(INTERVAL)]
    for number in range(500):
        time.now += INTERVAL / 7
        seen.append(clock.advance(INTERVAL) if number % 37 == 0 else clock.now())
    assert all(later >= earlier - 1e-9 for earlier, later in zip(seen, seen[1:]))  # except for rounding


def test_once_nobody_ticks_all_time_counts_again(clock, time):
    clock.advance(INTERVAL)
    time.now += 10
    clock.stop()
    before = clock.now()
    time.now += 10
    assert clock.now() == before + 10


def test_nothing_is_scheduled_by_the_clock_of_the_machine():
    """loop.now() changes when the system time is set: a probe would then be late. Only a connection may use it, for its meter."""
    package = Path(gmproxy.__file__).parent
    using = {
        path.name for path in package.rglob("*.py") if re.search(r"loop\.now\(\)", re.sub(r'""".*?"""', "", path.read_text(), flags=re.S))
    }
    assert using <= {"connection.py"}

"""One report for all requests that arrive within a short time."""

import gevent
import pytest

from gmproxy.monitoring.admin_server import CachedResult


class RecordingMaker:
    """Makes the result after a short time, and counts how often."""

    def __init__(self):
        self.made = 0
        self.trouble = None

    def __call__(self):
        gevent.sleep(0.01)
        self.made += 1
        if self.trouble:
            raise self.trouble
        return {"number": self.made}


def test_one_is_made_at_a_time_and_kept_for_a_moment():
    make = RecordingMaker()
    kept = CachedResult(make, 60)
    askers = [gevent.spawn(kept.get) for _ in range(20)]
    assert [asker.get(timeout=10) for asker in askers] == [{"number": 1}] * 20
    assert kept.get() is askers[0].value
    assert make.made == 1


def test_afterwards_there_is_another():
    kept = CachedResult(RecordingMaker(), 0)
    assert [kept.get()["number"] for _ in range(3)] == [1, 2, 3]


def test_who_asks_and_goes_takes_nothing_from_the_others():
    kept = CachedResult(RecordingMaker(), 60)
    first, second = gevent.spawn(kept.get), gevent.spawn(kept.get)
    gevent.sleep(0)
    first.kill()
    assert second.get(timeout=10) == {"number": 1}


def test_where_it_cannot_be_made_those_who_asked_hear_of_it_and_the_next_one_is_tried(internal_errors_counted):
    make = RecordingMaker()
    kept = CachedResult(make, 60)
    make.trouble = RuntimeError("trouble")
    for _ in range(2):
        with pytest.raises(LookupError):
            kept.get()
    assert internal_errors_counted() == 2
    make.trouble = None
    assert kept.get() == {"number": 3}

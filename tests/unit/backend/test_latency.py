"""Latency histograms, slow requests and the loop's lag: told the time, they do the rest."""

import functools

import pytest

from gmproxy.backend.latency import BOUNDS, Meter
from gmproxy.monitoring.slow_log import LAG_WINDOW, LOGGED_EVERY, SLOW_KEPT, LoopLag, SlowLog
from gmproxy.protocol import commands
from gmproxy.protocol import request as message
from gmproxy.protocol.key_list import KeyList


def request(key=b"k", command=b"get"):
    return message.Request(commands.COMMANDS[command], key, b"get k\r\n")


@pytest.mark.parametrize("bucket, bound", list(enumerate(BOUNDS)))
def test_a_bucket_has_what_took_as_long_as_its_bound_and_not_longer(bucket, bound):
    meter = Meter(1.0, None)
    meter.took(bound, 3)
    meter.took(bound * 1.001, 2)
    expected = [0] * (len(BOUNDS) + 1)
    expected[bucket : bucket + 2] = [3, 2]
    assert meter.buckets() == expected
    assert meter.total == pytest.approx(5 * bound, rel=0.01)
    meter.reset()
    assert (sum(meter.buckets()), meter.total) == (0, 0)


def test_only_what_reaches_the_threshold_is_slow():
    slow = SlowLog(lambda: 1000.0)
    meter = Meter(0.1, functools.partial(slow.record_request, "pool", "a:1"))
    meter.slow(request(b"quick"), 0.0999)
    meter.slow(request(b"late"), 0.1)
    assert slow.slowest() == [
        {"pool": "pool", "backend": "a:1", "key": "late", "command": "get", "seconds": 0.1, "stage": "primary", "time": 1000.0}
    ]


def test_the_slowest_come_first_and_only_so_many_are_kept():
    slow = SlowLog(lambda: 0.0)
    for number in range(SLOW_KEPT + 10):
        slow.record_request("pool", "a:1", request(), number)
    seconds = [one["seconds"] for one in slow.slowest()]
    assert seconds == list(range(SLOW_KEPT + 9, 9, -1))


def test_what_is_unreported_is_summed_up_by_pool_and_not_too_often():
    slow = SlowLog(lambda: 0.0)

    def record(*requests):
        for pool, label, seconds in requests:
            slow.record_request(pool, label, request(), seconds)

    def taken(now):
        return [(one.requests, one.servers, one.slowest["backend"], one.slowest["seconds"]) for one in slow.take_unreported(now)]

    record(("pool", "a:1", 0.2), ("pool", "a:1", 0.5), ("other", "b:2", 0.3), ("pool", "b:2", 0.4))
    assert taken(100.0) == [(3, {"a:1", "b:2"}, "a:1", 0.5), (1, {"b:2"}, "b:2", 0.3)]
    assert taken(100.0) == []
    record(("pool", "a:1", 0.6))
    assert taken(100.0 + LOGGED_EVERY - 1) == []
    record(("pool", "b:2", 0.7), ("new", "a:1", 0.1))
    assert taken(100.0 + LOGGED_EVERY) == [(2, {"a:1", "b:2"}, "b:2", 0.7), (1, {"a:1"}, "a:1", 0.1)]
    assert taken(100.0 + 9 * LOGGED_EVERY) == []


def test_of_several_keys_the_first_that_this_server_was_asked_for_is_told():
    part = request(b"elsewhere")
    part.keys = KeyList([b"here", b"too"])
    slow = SlowLog(lambda: 0.0)
    slow.record_request("pool", "a:1", part, 1)
    assert slow.slowest()[0]["key"] == "here"


def test_a_key_that_is_no_text_can_be_sent():
    slow = SlowLog(lambda: 0.0)
    slow.record_request("pool", "a:1", request(b"\xff\xfe"), 1)
    assert slow.slowest()[0]["key"] == "\\xff\\xfe"


def test_lag_is_the_worst_of_the_last_second_or_two():
    lag = LoopLag()
    assert lag.seconds == 0
    now = 0.0
    for wait in (0.05, 0.05, 0.35, 0.05):
        now += wait
        lag.observe(now, 0.05)
    assert lag.seconds == pytest.approx(0.3)
    for _ in range(round(2 * LAG_WINDOW / 0.05) + 2):
        now += 0.05
        lag.observe(now, 0.05)
    assert lag.seconds == pytest.approx(0, abs=1e-6)

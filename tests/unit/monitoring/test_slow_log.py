"""The log of slow requests and the loop's lag, with the time as an argument."""

import pytest
from support.requests import request_for

from gmproxy.monitoring.slow_log import LAG_WINDOW, LOGGED_EVERY, SLOW_KEPT, LoopLag, SlowLog
from gmproxy.protocol.key_list import KeyList


def test_the_slowest_come_first_and_only_so_many_are_kept():
    slow = SlowLog(lambda: 0.0)
    for number in range(SLOW_KEPT + 10):
        slow.record_request("pool", "a:1", request_for(b"get k\r\n"), number)
    seconds = [one["seconds"] for one in slow.slowest()]
    assert seconds == list(range(SLOW_KEPT + 9, 9, -1))


def test_what_is_unreported_is_summed_up_by_pool_and_not_too_often():
    slow = SlowLog(lambda: 0.0)

    def record(*requests):
        for pool, label, seconds in requests:
            slow.record_request(pool, label, request_for(b"get k\r\n"), seconds)

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
    part = request_for(b"get elsewhere\r\n")
    part.keys = KeyList([b"here", b"too"])
    slow = SlowLog(lambda: 0.0)
    slow.record_request("pool", "a:1", part, 1)
    assert slow.slowest()[0]["key"] == "here"


def test_a_key_that_is_no_text_can_be_sent():
    slow = SlowLog(lambda: 0.0)
    slow.record_request("pool", "a:1", request_for(b"get \xff\xfe\r\n"), 1)
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

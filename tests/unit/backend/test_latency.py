"""Latency histograms, and which requests are slow, with the time as an argument."""

import functools

import pytest

from gmproxy.backend.latency import BOUNDS, Meter
from gmproxy.monitoring.slow_log import SlowLog
from gmproxy.protocol import commands
from gmproxy.protocol import request as message


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

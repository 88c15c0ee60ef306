"""From counters to rates and quantiles."""

import pytest
from support.reports import BOUNDS, backend

from gmproxy.monitoring.rates import ServerCounters, quantile


@pytest.mark.parametrize(
    "buckets, part, expected",
    [
        ([0, 0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0, 0], 0.5, 0.00005),
        ([0, 10, 0, 0, 0], 1.0, 0.001),
        ([50, 50, 0, 0, 0], 0.5, 0.0001),
        ([50, 0, 50, 0, 0], 0.75, 0.0055),
        ([0, 0, 0, 0, 7], 0.5, 0.1),
    ],
)
def test_quantiles(buckets, part, expected):
    assert quantile(BOUNDS, buckets, part) == pytest.approx(expected)


def test_several_servers_together():
    both = ServerCounters.total([backend("a"), backend("b", hits=250, errors={"timeout": 2, "reset": 1})])
    assert (both.requests, both.errors, both.keys, both.hit_ratio) == (2000, 3, 2000, 0.5)
    assert both.buckets == (1000, 980, 20, 0, 0)


def test_no_servers():
    assert ServerCounters.total([]).hit_ratio is None


def test_what_was_counted_since():
    since = ServerCounters.total([backend("a", keys=1100, hits=760)]).since(ServerCounters.total([backend("a")]))
    assert (since.requests, since.keys, since.hits, since.buckets) == (0, 100, 10, (0, 0, 0, 0, 0))


def test_counters_that_began_anew():
    assert ServerCounters.total([backend("a", hits=3)]).since(ServerCounters.total([backend("a")])) is None

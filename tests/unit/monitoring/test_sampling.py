"""The most frequent keys, in bounded memory."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.monitoring import sampling
from gmproxy.monitoring.sampling import Sampler, SpaceSaving
from gmproxy.protocol import commands
from gmproxy.protocol import request as message


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5))), st.integers(1, 10))
def test_counts_are_never_told_too_high_and_frequent_keys_are_never_lost(seen, counters):
    sketch = SpaceSaving(counters)
    truth = Counter()
    for key, weight in seen:
        sketch.increment(key, weight)
        truth[key] += weight
    results = dict(sketch.most_frequent(counters))
    assert len(results) <= counters
    assert sketch.total == truth.total()
    assert all(count <= truth[key] for key, count in results.items())
    assert {key for key, count in truth.items() if count > truth.total() / counters} <= results.keys()


def test_as_long_as_all_fit_the_counts_are_exact():
    sketch = SpaceSaving(10)
    for key in "abacabad":
        sketch.increment(key)
    assert sketch.most_frequent(3) == [("a", 4), ("b", 2), ("c", 1)]


def get(key, keys=None):
    request = message.Request(commands.COMMANDS[b"get"], key, b"get " + key + b"\r\n")
    request.keys = keys
    return request


def shown(sampler, requests):
    """Calls the sampler as the router does. Returns how many of `requests` it examined."""
    skip = looked = 0
    for request in requests:
        if skip:
            skip -= 1
        else:
            skip = sampler.sample_request(request)
            looked += 1
    return looked


def test_under_much_traffic_few_are_looked_at_and_stand_for_the_rest():
    random.seed(1)
    sampler = Sampler("pool", 0, lambda: 0.0, lambda: 0.0)  # a clock that stands still: the rate of requests is infinite
    hot, cold = get(b"hot"), [get(b"cold%d" % number) for number in range(100)]
    requests = [hot if number % 4 == 0 else random.choice(cold) for number in range(200_000)]
    assert shown(sampler, requests) < 2000
    results = sampler.results()
    assert results["total"] == pytest.approx(200_000, rel=0.2)
    assert results["keys"][0][:2] == ["hot", "get"]
    assert results["keys"][0][2] / results["total"] == pytest.approx(0.25, abs=0.1)


def test_with_little_traffic_all_are_looked_at():
    clock = iter(range(10_000))
    sampler = Sampler("pool", 3, lambda: next(clock), lambda: 7.0)
    assert shown(sampler, [get(b"k%d" % number) for number in range(500)]) == 500
    results = sampler.results()
    assert results["total"] == 500
    assert [request["key"] for request in results["requests"]] == ["k0", "k1", "k2"]


def test_a_get_of_many_keys_counts_for_all_of_them():
    sampler = Sampler("pool", 1, lambda: 0.0, lambda: 7.0)
    sampler.sample_request(get(b"a", [b"a", b"b"]))
    results = sampler.results()
    assert results["total"] == 2
    assert results["keys"][0][2] == 2
    assert results["requests"] == [{"time": 7.0, "pool": "pool", "command": "get", "key": "a", "keys": 2, "bytes": 7}]


def test_samples_of_several_workers_add_up():
    one = {"pool": "p", "total": 10, "keys": [["a", "get", 5], ["b", "get", 1]], "requests": [{"time": 2}]}
    two = {"pool": "p", "total": 10, "keys": [["b", "get", 7]], "requests": [{"time": 1}, {"time": 3}]}
    assert sampling.merge_keys([one, two]) == [
        {"key": "b", "command": "get", "pool": "p", "count": 8, "share": 0.4},
        {"key": "a", "command": "get", "pool": "p", "count": 5, "share": 0.25},
    ]
    assert sampling.merge_requests([one, two], 2) == [{"time": 1}, {"time": 2}]

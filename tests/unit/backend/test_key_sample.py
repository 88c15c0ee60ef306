"""Keys chosen at random from a listing that arrives in pieces."""

from collections import Counter

import pytest

from gmproxy.backend.key_sample import KeySample, key_of


def listing(keys):
    return b"OK\r\n" + b"".join(b"key=%b exp=-1 la=1 cas=1 fetch=no cls=1 size=63\n" % key for key in keys) + b"END\r\n"


def sampled(data, wanted, step):
    sample = KeySample(wanted)
    for begin in range(0, len(data), step):
        sample.add_chunk(data[begin : begin + step])
    assert sample.size == len(data)
    return sample


def test_the_key_of_a_line():
    assert key_of(b"key=a%20b%0A exp=-1 la=1") == b"a b\n"
    assert key_of(b"END\r") is None and key_of(b"OK\r") is None and key_of(b"key=a") is None


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_a_short_listing_is_taken_whole(step):
    keys = [b"key%d" % number for number in range(20)]
    for wanted in (20, 21, 1000):
        sample = sampled(listing(keys), wanted, step)
        assert sorted(sample.keys()) == sorted(keys) and sample.is_complete()


@pytest.mark.parametrize("step", [7, 10_000])
@pytest.mark.parametrize("wanted", [1, 5, 19])
def test_of_a_long_one_some_keys_each_once(step, wanted):
    keys = [b"key%d" % number for number in range(500)]
    sample = sampled(listing(keys), wanted, step)
    assert len(set(sample.keys())) == wanted == len(sample.keys())
    assert set(sample.keys()) <= set(keys) and not sample.is_complete() and sample.seen == 500


def test_an_empty_listing():
    assert sampled(b"END\r\n", 5, 3).keys() == []


def test_each_key_has_the_same_chance():
    """Of 30 keys 3 are taken, 4000 times: each about 400 times. The limits are six standard deviations away."""
    data = listing([b"%d" % number for number in range(30)])
    counts = Counter(key for _ in range(4000) for key in sampled(data, 3, len(data)).keys())
    assert len(counts) == 30 and 285 < min(counts.values()) and max(counts.values()) < 515

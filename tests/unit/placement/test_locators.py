"""The distributions by themselves: look-ups compared with a plain scan, with owners and hashes made by the test."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmproxy.placement import hashes as hashing
from gmproxy.placement import locators as ring
from gmproxy.placement.hashes import HASHES

points = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 20), min_size=1, max_size=60)
position = st.integers(0, 2**32 - 1) | st.integers(0, 21) | st.just(2**32 - 1)


def number(key):
    """A hash that the test determines: the key is the number."""
    return int(key)


def quick_number(key):
    """The same, declared as unsigned and of 32 bits."""
    return int(key)


hashing._QUICK[quick_number] = hashing.QuickFunction(quick_number)

#: So large a number of buckets that a wrong hash rarely gives the right one.
MANY = 65521

both_ways = pytest.mark.parametrize("number", [number, quick_number])


@both_ways
@given(points=points, h=position)
def test_ring_finds_the_first_point_at_or_above(number, points, h):
    owners = list(range(len(points)))
    above = [(point, owner) for point, owner in zip(points, owners) if point >= h]
    expected = min(above or zip(points, owners))[1]
    assert ring.Ring(points, owners, number).locate(b"%d" % h) == expected


@both_ways
@given(points=points, h=position)
def test_ring_below_finds_the_last_point_at_or_below(number, points, h):
    owners = list(range(len(points)))
    below = [(point, owner) for point, owner in zip(points, owners) if point <= h]
    expected = max(below or zip(points, owners))[1]
    assert ring.RingBelow(points, owners, number).locate(b"%d" % h) == expected


@given(points=points, data=st.data())
def test_where_a_point_is_the_hash_itself(points, data):
    owners = list(range(len(points)))
    h = data.draw(st.sampled_from(points))
    for quick in (ring.Ring(points, owners, quick_number), ring.RingBelow(points, owners, quick_number)):
        for near in {max(h - 1, 0), h, min(h + 1, 2**32 - 1)}:
            assert quick.locate(b"%d" % near) == quick.at(near)


@pytest.mark.parametrize("points", [[-5, 7], [7, 2**32], [-2.5, 0.5], [10**12]])
def test_points_that_are_no_unsigned_numbers(points):
    odd = ring.Ring(points, list(range(len(points))), quick_number)
    assert [odd.locate(b"%d" % h) for h in (0, 7, 8)] == [odd.at(h) for h in (0, 7, 8)]


@pytest.mark.parametrize("name", HASHES)
@given(key=st.binary(min_size=1, max_size=40) | st.text(min_size=1, max_size=20).map(str.encode))
def test_a_key_is_hashed_alike_as_an_object_and_where_it_stands(name, key):
    assert many_buckets(name).locate(key) == HASHES[name](key) % MANY


@functools.cache
def many_buckets(name):
    return ring.Buckets(list(range(MANY)), HASHES[name])


def test_a_ring_needs_points():
    with pytest.raises(ValueError, match="no server has a point"):
        ring.Ring([], [], number)


def test_only_asks_nothing():
    assert ring.SingleServer(7).locate(b"any") == 7


@pytest.mark.parametrize("h, floored, absolute", [(7, 1, 1), (0, 0, 0), (-1, 2, 1), (-2, 1, 2), (-3, 0, 0)])
def test_remainders_of_negative_hashes(h, floored, absolute):
    assert ring.Buckets([0, 1, 2], number).locate(b"%d" % h) == floored
    assert ring.AbsoluteBuckets([0, 1, 2], number).locate(b"%d" % h) == absolute


def test_buckets_hand_out_their_owners():
    buckets = ring.Buckets([4, 4, 9], number)
    assert [buckets.locate(b"%d" % h) for h in range(6)] == [4, 4, 9, 4, 4, 9]


@pytest.mark.parametrize("h, bucket", [(0, 1), (0xFFFF, 1), (0x10000, 1), (0x20000, 2), (2**31, 1), (2**31 + 0x20000, 2)])
def test_folded_buckets_use_bits_16_to_30_and_never_zero(h, bucket):
    assert ring.FoldedBuckets([0, 1, 2, 3], number).locate(b"%d" % h) == bucket


def test_random_reaches_every_owner():
    everywhere = ring.RandomOwner([3, 5, 8])
    assert {everywhere.locate(b"key") for _ in range(1000)} == {3, 5, 8}


def test_magent_falls_back_to_modulo_on_a_zero_hash():
    owners = [0, 1, 2]
    magent = ring.MagentRing([0x100, 0x200, 0x300], owners, number, 0xFF, owners)
    # 0x100 and 0 are 0 under the mask, where the key itself is hashed; 0x2ff is 0xff, below all points.
    for key in (b"0", b"%d" % 0x100, b"%d" % 0xFF00):
        assert magent.locate(key) == HASHES["djb"](key) % 3
    assert magent.locate(b"%d" % 0x2FF) == 0


labels = st.lists(st.text(max_size=20), min_size=1, max_size=8, unique=True)


@given(labels, st.text(max_size=30))
def test_rendezvous_is_the_best_murmur3_of_the_whole_text(labels, key):
    def score(label):
        return HASHES["murmur3_32"](ring.low_bytes(f"{label}-{key}")), label

    wire = key.encode()
    key = wire.decode()
    expected = labels.index(max(labels, key=score))
    assert ring.Rendezvous(labels, range(len(labels)), False).locate(wire) == expected


@given(labels, st.binary(max_size=30))
def test_rendezvous_quoted_hashes_what_python_prints(labels, key):
    owners = range(len(labels))
    quoted = ring.Rendezvous(labels, owners, True).locate(key)
    assert quoted == ring.Rendezvous(labels, owners, False).locate(str(key).encode())


def test_of_equal_scores_the_greater_label_wins():
    # Only the low 8 bits of a character are used, so these two always have the same score.
    twins = ["a:1", "\N{LATIN SMALL LETTER S WITH CARON}:1"]
    assert ring.low_bytes(twins[0]) == ring.low_bytes(twins[1])
    assert ring.Rendezvous(twins, [0, 1], False).locate(b"key") == 1
    assert ring.Rendezvous(twins[::-1], [0, 1], False).locate(b"key") == 0

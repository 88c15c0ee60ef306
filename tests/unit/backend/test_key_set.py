"""A set of keys in small parts: it behaves like a set, and no part is large."""

import random

import pytest

from gmproxy.backend.key_set import PARTS, KeySet


@pytest.fixture
def keys():
    return KeySet()


def test_empty(keys):
    assert not keys and len(keys) == 0 and b"a" not in keys and list(keys) == []
    assert keys.take(5) == []
    keys.discard(b"a")
    assert len(keys) == 0


def test_it_is_what_a_set_is(keys):
    chance = random.Random(1)
    model = set()
    for _ in range(20_000):
        key = b"%d" % chance.randrange(3000)
        what = chance.choice(("add", "add", "discard", "take"))
        if what == "take":
            taken = keys.take(2)
            assert len(set(taken)) == len(taken) == min(2, len(model))
            assert model.issuperset(taken)
            model.difference_update(taken)
        else:
            getattr(keys, what)(key)
            getattr(model, what)(key)
        assert (key in keys, len(keys), bool(keys)) == (key in model, len(model), bool(model))
    assert set(keys) == model


def test_all_parts_are_small(keys):
    count = 100 * PARTS
    for number in range(count):
        keys.add(b"key-%d" % number)
    assert max(map(len, keys.parts.values())) < 200
    taken = []
    while keys:
        taken += keys.take(333)
    assert len(taken) == len(set(taken)) == count
    assert not keys.parts, "what is empty needs no room"


def test_a_key_is_not_overtaken_for_ever_by_new_ones(keys):
    for number in range(1000):
        keys.add(b"old-%d" % number)
    taken = set()
    for number in range(100_000):
        keys.add(b"new-%d" % number)
        taken.update(keys.take(1))
    assert taken.issuperset(b"old-%d" % number for number in range(1000))

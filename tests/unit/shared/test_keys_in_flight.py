"""The keys in flight of one process, in memory that another process reads after its death."""

import os
import random
import signal

import pytest
from support.forked import Forked

from gmproxy.shared.keys_in_flight import KeysInFlight, has_overflowed, keys_left, tag_of
from gmproxy.shared.memory import BYTES_PER_KEY, KEYS_IN_FLIGHT, SharedMemory

#: The maximum length of a key, in the binary protocol of any bytes.
LONGEST = 250

#: The entry of a key for which there is no room (a C constant in gmproxy/shared/keys_in_flight.py).
NO_ENTRY = KEYS_IN_FLIGHT


@pytest.fixture
def memory():
    return memoryview(bytearray(KEYS_IN_FLIGHT * BYTES_PER_KEY))


@pytest.fixture
def keys(memory):
    return KeysInFlight(memory)


def test_keys_are_left_until_they_are_removed(memory, keys):
    one, two = keys.add_key(b"one", 1), keys.add_key(b"two", 2**32 - 1)
    assert sorted(keys_left(memory)) == [(1, b"one"), (2**32 - 1, b"two")]
    keys.remove_entry(one)
    assert list(keys_left(memory)) == [(2**32 - 1, b"two")]
    assert not keys.is_empty()
    keys.remove_entry(two)
    assert list(keys_left(memory)) == [] and keys.is_empty()


def test_a_key_may_be_there_several_times(memory, keys):
    entries = [keys.add_key(b"k", 1) for _ in range(3)]
    keys.remove_entry(entries[1])
    assert list(keys_left(memory)) == [(1, b"k")] * 2


@pytest.mark.parametrize("key", [bytes(range(6, 256)), b"\xff" * LONGEST, b"\0" * LONGEST, b"\r\n", b" "])
def test_keys_of_any_bytes(memory, keys, key):
    before = keys.add_key(b"before", 7)
    keys.add_key(key, 3)
    keys.add_key(b"after", 7)
    assert (3, key) in list(keys_left(memory)) and len(list(keys_left(memory))) == 3
    keys.remove_entry(before)
    assert sorted(keys_left(memory)) == sorted([(3, key), (7, b"after")])


def test_a_shorter_key_in_the_place_of_a_longer_one(memory, keys):
    keys.remove_entry(keys.add_key(b"x" * LONGEST, 1))
    keys.add_key(b"y", 2)
    assert list(keys_left(memory)) == [(2, b"y")]


def test_few_entries_are_used(keys):
    """So little of the memory is touched, however many keys there are, one after the other."""
    used = set()
    for _ in range(1000):
        entry = keys.add_key(b"k", 1)
        used.add(entry)
        keys.remove_entry(entry)
    assert len(used) == 1


def test_more_keys_than_there_are_entries(memory, keys):
    entries = [keys.add_key(b"%d" % number, 1) for number in range(KEYS_IN_FLIGHT - 1)]
    assert NO_ENTRY not in entries and len(set(entries)) == KEYS_IN_FLIGHT - 1 and not has_overflowed(memory)
    assert [keys.add_key(b"x", 1), keys.add_key(b"y", 1)] == [NO_ENTRY, NO_ENTRY]
    assert has_overflowed(memory)
    assert sorted(key for _, key in keys_left(memory)) == sorted(b"%d" % number for number in range(KEYS_IN_FLIGHT - 1))
    keys.remove_entry(NO_ENTRY)
    assert has_overflowed(memory), "one is left that is not known"
    keys.remove_entry(entries.pop())
    assert keys.add_key(b"z", 1) != NO_ENTRY and has_overflowed(memory)
    keys.remove_entry(NO_ENTRY)
    assert not has_overflowed(memory)


def test_not_empty_while_a_key_has_no_entry(keys):
    entries = [keys.add_key(b"k", 1) for _ in range(KEYS_IN_FLIGHT)]
    for entry in entries[:-1]:
        keys.remove_entry(entry)
    assert entries[-1] == NO_ENTRY and not keys.is_empty()
    keys.remove_entry(NO_ENTRY)
    assert keys.is_empty()


def test_whatever_comes_and_goes(memory, keys):
    chance = random.Random(1)
    there = {}
    for number in range(3000):
        if there and chance.random() < 0.5:
            entry = chance.choice(list(there))
            del there[entry]
            keys.remove_entry(entry)
        else:
            key = chance.randbytes(chance.randint(1, LONGEST))
            tag = chance.randrange(2**32)
            there[keys.add_key(key, tag)] = tag, key
        if number % 100 == 0:
            assert sorted(keys_left(memory)) == sorted(there.values())


def test_what_a_killed_process_has_left():
    memory = SharedMemory.create()
    with Forked(begin=lambda key: KeysInFlight(memory.keys_of(3)).add_key(key, 5)) as process:
        process.call("begin", b"k")
        process.kill(signal.SIGKILL)
    assert list(keys_left(memory.keys_of(3))) == [(5, b"k")]
    assert list(keys_left(memory.keys_of(2))) == list(keys_left(memory.keys_of(4))) == []


def test_the_tags_of_pools():
    assert tag_of("") == 0
    assert len({tag_of(name) for name in ("", "a", "b", "shop", "blog")}) == 5
    assert all(0 <= tag_of(os.urandom(8).hex()) < 2**32 for _ in range(100))

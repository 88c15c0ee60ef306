"""Large values, too large values, many keys: over real servers."""

import random

import pytest
from support.talk import storage, value

MISS = b"END\r\n"
TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"
MIB = 1024 * 1024

#: It contains many times what looks like the protocol.
BINARY = random.Random(1).randbytes(1000) + b"\r\n\n\r\0END\r\nVALUE k 0 1\r\nget k\r\n"
LARGE = (BINARY * (1_000_000 // len(BINARY) + 1))[:1_000_000]


@pytest.fixture
def talk(memcached, proxy):
    servers = [memcached() for _ in range(3)]
    with proxy(*(part for server in servers for part in ("-s", server.address))).talk() as talk:
        yield talk
        talk.in_step()


def test_a_million_bytes(talk):
    talk.expect(storage(b"set", b"k", LARGE, flags=3), b"STORED\r\n")
    talk.expect(b"get k\r\n", value(b"k", LARGE, flags=3) + MISS)


@pytest.mark.parametrize("size", [1, 1447, 65_536])
def test_a_large_value_in_pieces(talk, size):
    data = LARGE[: size * 200]
    talk.send_in_pieces(storage(b"set", b"k", data), size)
    talk.expect_answer(b"STORED\r\n")
    talk.expect(b"get k\r\n", value(b"k", data) + MISS)


def test_many_large_values_at_once(talk):
    keys = [b"key%d" % number for number in range(20)]
    for key in keys:
        talk.send(storage(b"set", key, LARGE + key))
    talk.expect_answer(b"STORED\r\n" * len(keys))
    for key in keys:
        talk.expect(b"get %b\r\n" % key, value(key, LARGE + key) + MISS)
    talk.send(b"get %b\r\n" % b" ".join(keys))
    answer = talk.read_exactly(sum(len(value(key, LARGE + key)) for key in keys) + len(MISS))
    assert answer.endswith(MISS)
    assert all(b"\r\n" + key in answer or key in answer for key in keys)


@pytest.mark.parametrize("size", [MIB, MIB + 1, 2 * MIB, 10 * MIB])
def test_a_value_that_is_too_large_takes_the_old_one_with_it(talk, size):
    """At 1 MiB memcached refuses the value, above it the proxy does: the client receives the same."""
    talk.expect(storage(b"set", b"k", b"old"), b"STORED\r\n")
    talk.expect(storage(b"set", b"k", b"x" * size) + b"get k\r\n", TOO_LARGE + MISS)


def test_another_command_with_too_large_a_value_leaves_the_old_one(talk):
    talk.expect(storage(b"set", b"k", b"old"), b"STORED\r\n")
    for verb in (b"add", b"replace", b"append", b"prepend"):
        talk.expect(storage(verb, b"k", b"x" * 2 * MIB), TOO_LARGE)
    talk.expect(b"get k\r\n", value(b"k", b"old") + MISS)


def test_a_data_block_that_is_too_large_is_not_taken_for_commands(talk):
    block = b"set trap 0 0 1\r\nx\r\n" * (2 * MIB // 19)
    talk.expect(storage(b"set", b"k", block), TOO_LARGE)
    talk.expect(b"get trap\r\n", MISS)


def test_too_large_with_noreply_is_silent(talk):
    talk.expect(storage(b"set", b"k", b"x" * 2 * MIB, more=b" noreply"), b"")


def test_too_large_takes_the_old_value_from_the_backup_too(memcached, proxy):
    primary, backup = memcached(), memcached()
    with proxy("-s", primary.address, "-b", backup.address).talk() as talk:
        talk.expect(storage(b"set", b"k", b"old"), b"STORED\r\n")
        talk.expect(storage(b"set", b"k", b"x" * 2 * MIB), TOO_LARGE)
        talk.expect(b"get k\r\n", MISS)
        talk.in_step()


def test_the_largest_value_can_be_set(memcached, proxy):
    server = memcached("-I", "4m")
    data = LARGE * 3
    with proxy("-s", server.address, "-I", "4m").talk() as talk:
        talk.expect(storage(b"set", b"k", data), b"STORED\r\n")
        talk.expect(b"get k\r\n", value(b"k", data) + MISS)
        talk.expect(storage(b"set", b"k", b"x" * 5 * MIB), TOO_LARGE)
        talk.in_step()


def test_ten_thousand_keys_at_once(talk):
    """Every second key is there."""
    keys = [b"some-key-%d" % number for number in range(10_000)]
    there = keys[::2]
    for start in range(0, len(there), 1000):
        part = there[start : start + 1000]
        talk.expect(b"".join(storage(b"set", key, key) for key in part), b"STORED\r\n" * len(part))
    talk.send(b"get %b\r\n" % b" ".join(keys))
    answer = talk.read_exactly(sum(len(value(key, key)) for key in there) + len(MISS))
    blocks = [block for block in answer.split(b"VALUE ") if block]
    assert blocks[-1].endswith(MISS)
    assert sorted(block.removesuffix(MISS) for block in blocks) == sorted(value(key, key)[6:] for key in there)


def test_the_longest_key(talk):
    key = b"k" * 250
    talk.expect(storage(b"set", key, b"x"), b"STORED\r\n")
    talk.expect(b"get %b\r\n" % key, value(key, b"x") + MISS)

"""The load sees what is wrong, and only that. Here it asks a memcached itself, which is right, and one on which we cheat."""

import random

import pytest

from faults import damage, tally
from faults.client import Client
from faults.load import Load
from faults.report import complaint, history
from support.relay import Relay
from support.talk import storage
from support.timing import eventually

#: A key of the first worker.
KEY = b"load-0-key-0"
OTHER = b"load-1-key-0"
COUNTER = b"load-0-counter-0"


@pytest.fixture
def server(memcached):
    return memcached()


def held(server, key):
    """What the server has under `key` at a moment when it has something."""
    client = Client(server.port)
    items = eventually(lambda: client.ask_all([(b"get %b" % key, True)])[0], what=f"{key} is there")
    client.close()
    return items[0].data


def put(server, key, data):
    with server.talk() as talk:
        talk.expect(storage(b"set", key, data), b"STORED\r\n")


def seen(load, kind):
    """Some worker has met it."""
    return any(worker.tally.violations[kind] for worker in load.workers)


def test_memcached_is_always_right(server):
    with Load(server.port) as load:
        eventually(lambda: all(worker.tally.requests > 200 for worker in load.workers))
    assert not load.tally.violations
    assert not load.tally.errors
    assert not complaint(load.tally, [])
    assert load.tally.requests == len(load.tally.ends) == len(load.tally.waits)


@pytest.mark.parametrize("key", [KEY, COUNTER])
def test_an_old_value_is_stale(server, key):
    with Load(server.port) as load:
        old = held(server, key)
        eventually(lambda: held(server, key) != old)
        eventually(lambda: put(server, key, old) or seen(load, tally.STALE), what="a worker sees it")
    assert "stale reads" in complaint(load.tally, [])
    violation = load.tally.examples[tally.STALE][0]
    assert key.decode() in history(violation, [])
    assert "client 0: set number 1 -> STORED" in complaint(load.tally, [])


@pytest.mark.parametrize("key, other", [(KEY, OTHER), (COUNTER, b"load-1-counter-0")])
def test_the_value_of_another_key_is_wrong(server, key, other):
    with Load(server.port) as load:
        eventually(lambda: put(server, key, held(server, other)) or seen(load, tally.WRONG_VALUE), what="a worker sees it")
    assert "wrong values" in complaint(load.tally, [])


def test_a_value_that_nobody_wrote_is_wrong(server):
    with Load(server.port) as load:
        eventually(lambda: put(server, COUNTER, b"1999999999") or seen(load, tally.WRONG_VALUE), what="a worker sees it")


@pytest.mark.parametrize("kind, seen_as", [
    (damage.a_byte_of_a_value, tally.DAMAGED),
    (damage.another_key, tally.WRONG_REPLY),
    (damage.another_status, tally.WRONG_REPLY),
    (damage.another_line_end, tally.WRONG_REPLY),
])
def test_damage_is_seen(server, kind, seen_as):
    """What the proxy must not let through, for here is none."""
    chance = random.Random(1)
    with Relay(server) as relay, Load(relay.port) as load:
        relay.corrupt(lambda chunk: kind(chunk, chance))
        eventually(lambda: seen(load, seen_as), what="a worker sees it")
        relay.pass_on()
        relay.cut()  # or whoever waits for a line end that was damaged would do so for long


def test_answers_in_another_order_are_seen(server):
    """As if one got the answer of another."""
    with Relay(server) as relay, Load(relay.port) as load:
        kept = [b""]

        def one_late(chunk):
            kept.append(chunk)
            return kept.pop(0)

        relay.corrupt(one_late)
        eventually(lambda: seen(load, tally.WRONG_REPLY), what="a worker sees it")
        relay.pass_on()
        relay.cut()  # or whoever waits for the answer that was kept would do so for long


def test_a_connection_that_ends_is_seen(server):
    with Relay(server) as relay, Load(relay.port) as load:
        relay.cut()
        eventually(lambda: seen(load, tally.CONNECTION_LOST), what="a worker sees it")

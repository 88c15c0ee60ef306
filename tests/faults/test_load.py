"""The load reports what is wrong, and only that. Its server is a memcached: unchanged, with items that the test changes, or behind a relay."""

import random
import time

import pytest
from support.relay import Relay
from support.talk import storage
from support.timing import TICK, eventually

from faults import damage, tally, values
from faults.client import Client
from faults.dialects import Binary, Meta, Text
from faults.load import Load
from faults.pauses import Pauses
from faults.report import complaint, history
from faults.worker import Rules

#: Keys of the first worker; OTHER is one of the second.
KEY = b"load-0-key-0"
OTHER = b"load-1-key-0"
COUNTER = b"load-0-counter-0"
LIST = b"load-0-list-1"


@pytest.fixture
def server(memcached):
    return memcached()


def held(server, key):
    """The value that the server has for `key`. Waits until it has one."""
    client = Client(server.port)
    wire = Text().retrieve([key])
    items = eventually(lambda: client.ask_all(wire.data, [wire.read])[0], what=f"{key} is there")
    client.close()
    return items[0].data


def put(server, key, data):
    with server.talk() as talk:
        talk.expect(storage(b"set", key, data), b"STORED\r\n")


def seen(load, kind):
    """True if a worker has counted a violation of this kind."""
    return any(worker.tally.violations[kind] for worker in load.workers)


def test_memcached_is_always_right(server):
    with Load(server.port) as load:
        eventually(lambda: all(worker.tally.requests > 200 for worker in load.workers))
    assert not load.tally.violations
    assert not load.tally.errors
    assert not complaint(load.tally, [])
    assert load.tally.requests == len(load.tally.ends) == len(load.tally.waits)


@pytest.mark.parametrize("dialect", [Text(), Meta(), Binary()], ids=lambda dialect: dialect.name)
def test_every_dialect_reads_the_same_answers(server, dialect):
    client = Client(server.port)

    def ask(wire):
        (answer,) = client.ask_all(wire.data, [wire.read])
        return answer

    assert ask(dialect.retrieve([KEY, OTHER])) == []
    assert ask(dialect.count(b"incr", KEY)) == ask(dialect.delete(KEY)) == ask(dialect.touch(KEY, 60)) == b"NOT_FOUND"
    assert ask(dialect.store(b"append", KEY, b"x")) == ask(dialect.store(b"replace", KEY, b"x")) == b"NOT_STORED"
    assert ask(dialect.store(b"cas", KEY, b"x", 5)) == b"NOT_FOUND"
    assert ask(dialect.store(b"set", KEY, b"7")) == ask(dialect.store(b"add", OTHER, b"x" * 100_000)) == b"STORED"
    assert ask(dialect.store(b"add", KEY, b"x")) == b"NOT_STORED"
    assert ask(dialect.count(b"incr", KEY)) == b"8"
    assert ask(dialect.count(b"decr", KEY)) == b"7"
    assert ask(dialect.store(b"append", KEY, b"0")) == b"STORED"
    one, other = ask(dialect.retrieve([KEY, b"none", OTHER], cas=True, life=60))
    assert (one.key, one.data, other.key, len(other.data)) == (KEY, b"70", OTHER, 100_000)
    assert ask(dialect.store(b"cas", KEY, b"x", one.cas + 100)) == b"EXISTS"
    assert ask(dialect.store(b"cas", KEY, b"x", one.cas)) == b"STORED"
    assert ask(dialect.touch(KEY, 60)) == b"TOUCHED"
    assert ask(dialect.delete(KEY)) == b"DELETED"
    assert [item.key for item in ask(dialect.retrieve([OTHER, KEY], life=60))] == [OTHER]
    client.close()


@pytest.mark.parametrize("key", [KEY, COUNTER, LIST])
def test_an_old_value_is_stale(server, key):
    with Load(server.port) as load:
        old = held(server, key)
        eventually(lambda: held(server, key) != old)
        eventually(lambda: put(server, key, old) or seen(load, tally.STALE), what="a worker sees it")
    assert "stale reads" in complaint(load.tally, [])
    violation = load.tally.examples[tally.STALE][0]
    assert key.decode() in history(violation, [])


def test_an_append_to_an_old_list_is_seen(server):
    with Load(server.port) as load:
        eventually(lambda: put(server, LIST, values.begin_list(LIST, 1)) or seen(load, tally.STALE_CHANGE), what="a worker sees it")
    assert "changes made to a stale value" in complaint(load.tally, [])


@pytest.mark.parametrize("key, other", [(KEY, OTHER), (COUNTER, b"load-1-counter-0")])
def test_the_value_of_another_key_is_wrong(server, key, other):
    with Load(server.port) as load:
        eventually(lambda: put(server, key, held(server, other)) or seen(load, tally.WRONG_VALUE), what="a worker sees it")
    assert "wrong values" in complaint(load.tally, [])


def test_a_value_that_nobody_wrote_is_wrong(server):
    with Load(server.port) as load:
        eventually(lambda: put(server, COUNTER, b"1599999999") or seen(load, tally.WRONG_VALUE), what="a worker sees it")


@pytest.mark.parametrize(
    "kind, seen_as",
    [
        (damage.a_byte_of_a_value, tally.DAMAGED),
        (damage.another_key, tally.WRONG_REPLY),
        (damage.another_status, tally.WRONG_REPLY),
        (damage.another_line_end, tally.WRONG_REPLY),
    ],
)
def test_damage_is_seen(server, kind, seen_as):
    """Damage that gmproxy must not forward to a client. In this test there is no gmproxy."""
    chance = random.Random(1)
    with Relay(server) as relay, Load(relay.port) as load:
        relay.corrupt(lambda chunk: kind(chunk, chance))
        eventually(lambda: seen(load, seen_as), what="a worker sees it")
        relay.pass_on()
        relay.cut()  # otherwise a worker waits until its timeout for the line end that was damaged


def test_answers_in_another_order_are_seen(server):
    """Each reply arrives one reply late, as if a client received the reply to another request."""
    with Relay(server) as relay, Load(relay.port) as load:
        kept = [b""]

        def one_late(chunk):
            kept.append(chunk)
            return kept.pop(0)

        relay.corrupt(one_late)
        eventually(lambda: seen(load, tally.WRONG_REPLY), what="a worker sees it")
        relay.pass_on()
        relay.cut()  # otherwise a worker waits until its timeout for the reply that the relay kept


def test_a_connection_that_ends_is_seen(server):
    with Relay(server) as relay, Load(relay.port) as load:
        relay.cut()
        eventually(lambda: seen(load, tally.CONNECTION_LOST), what="a worker sees it")


class TestHangs:
    """A request that waits for its reply for longer than allowed."""

    def test_is_seen(self, server):
        with Relay(server) as relay, Load(relay.port, rules=Rules(hung_after=4 * TICK)) as load:
            relay.hold()
            begun = time.monotonic()
            eventually(lambda: time.monotonic() - begun > 8 * TICK)
            relay.pass_on()
        assert "requests that hung" in complaint(load.tally, [])
        assert "without a pause" in complaint(load.tally, [])

    def test_not_while_nobody_could_be_answered(self, server):
        pauses = Pauses()
        begun = time.monotonic()
        with Relay(server) as relay, Load(relay.port, rules=Rules(hung_after=4 * TICK, pauses=pauses)) as load:
            relay.hold()
            eventually(lambda: time.monotonic() - begun > 8 * TICK)
            relay.pass_on()
            pauses.add(begun, time.monotonic() + 8 * TICK)
        assert not load.tally.violations[tally.HUNG]


def test_a_connection_that_was_cut_off_with_its_worker_is_none_that_was_lost(server):
    with Relay(server) as relay, Load(relay.port, rules=Rules(cut_off=lambda port: True)) as load:
        relay.cut()
        eventually(lambda: sum(worker.tally.cut_off for worker in load.workers) >= 1, what="a worker sees it")
    assert not load.tally.violations

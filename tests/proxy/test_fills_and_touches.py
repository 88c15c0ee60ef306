"""A write waits until its key was filled from the backup. Meanwhile other clients read the key and change its lifetime."""

import pytest
from support.relay import Relay
from support.talk import storage, value
from support.timing import eventually, milliseconds


@pytest.fixture
def held(memcached, proxy):
    """A primary without items, a backup that has k = 5 and whose replies are held, and the proxy."""
    primary, backup = memcached(), memcached()
    with backup.talk() as talk:
        talk.expect(storage(b"set", b"k", b"5"), b"STORED\r\n")
    with Relay(backup) as relay:
        front = proxy("-s", primary.address, "-b", relay.address, "--on-miss", "always", "--timeout", milliseconds(200))
        with front.talk() as talk:
            talk.expect(b"get k\r\n", value(b"k", b"5") + b"END\r\n")  # the connections are open
            with primary.talk() as there:
                eventually(lambda: b"5" in there.ask(b"get k\r\n", b"END\r\n"), what="the primary was filled")
                there.expect(b"delete k\r\n", b"DELETED\r\n")
        relay.hold()
        yield front, primary, relay


def commands(server):
    """The number of commands about keys that it has received."""
    facts = server.stats()
    return sum(facts[name] for name in ("cmd_get", "cmd_touch", "cmd_meta"))


@pytest.mark.parametrize(
    "change, answer, left",
    [
        (storage(b"append", b"k", b"0"), b"STORED\r\n", b"50"),
        (b"incr k 1\r\n", b"6\r\n", b"6"),
        (storage(b"add", b"k", b"x"), b"NOT_STORED\r\n", b"5"),
        (storage(b"replace", b"k", b"x"), b"STORED\r\n", b"x"),
        (b"touch k 100\r\n", b"TOUCHED\r\n", b"5"),
        (b"ma k v\r\n", b"VA 1\r\n6\r\n", b"6"),
    ],
    ids=["append", "incr", "add", "replace", "touch", "ma"],
)
@pytest.mark.parametrize(
    "touching", [b"gat 100 k\r\n", b"gat 100 k other\r\n", b"gats 100 k\r\n", b"mg k T100 v\r\n"], ids=["gat", "gat_of_two", "gats", "mg"]
)
def test_a_touch_does_not_void_the_fill_that_a_change_waits_for(held, change, answer, left, touching):
    front, primary, relay = held
    with front.talk() as talk, front.talk() as other:
        talk.send(change)
        eventually(lambda: front.stats()["fetches"] == 1, what="the key is being fetched")
        before = commands(primary)
        other.send(touching)
        eventually(lambda: commands(primary) > before, what="the other client has been at the primary")
        relay.pass_on()
        talk.expect_answer(answer)
        assert other.read_line().startswith((b"VALUE k ", b"VA "))
        talk.expect(b"get k\r\n", value(b"k", left) + b"END\r\n")
        talk.in_step()
    eventually(lambda: front.stats()["fetches"] == front.stats()["changes_undecided"] == 0, what="nothing is under way")

"""A worker's part of the service, and the memory in which workers publish their clients and what they have to delete on servers."""

import os
import random
from types import SimpleNamespace

import pytest

from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet, part_of
from gmproxy.errors import StartError
from gmproxy.placement.server_spec import parse_servers
from gmproxy.process.client_counts import MAX_POOLS, ClientCounts
from gmproxy.process.shared_invalidations import MAX_SERVERS, NOTHING, SharedInvalidations, server_key
from gmproxy.process.worker_context import WorkerContext


@pytest.mark.parametrize(
    "total, workers, parts",
    [
        (20, 1, [20]),
        (20, 2, [10, 10]),
        (20, 3, [7, 7, 6]),
        (1, 3, [1, 1, 1]),
        (2, 3, [1, 1, 1]),
        (4, 3, [2, 1, 1]),
    ],
)
def test_a_part(total, workers, parts):
    assert [WorkerContext(number, workers).part_of(total) for number in range(workers)] == parts


def test_the_sum_of_all_workers():
    counts = ClientCounts(3)
    counts.assign_rows(["one", "two"])
    for number in range(3):
        counts.set_clients(number, "one", 10 + number)
        counts.set_clients(number, "two", 1)
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two")) == (33, 3)
    counts.clear_worker(1)
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two")) == (22, 2)


def test_pools_come_and_go():
    counts = ClientCounts(2)
    counts.assign_rows(["one", "two"])
    counts.set_clients(0, "one", 5)
    counts.set_clients(0, "two", 7)
    counts.assign_rows(["two", "three"])
    assert (counts.clients_of_pool("one"), counts.clients_of_pool("two"), counts.clients_of_pool("three")) == (0, 7, 0)
    counts.set_clients(1, "one", 3)  # its last clients
    assert (counts.clients_of_pool("two"), counts.clients_of_pool("three")) == (7, 0)


def test_who_is_ahead_of_the_others():
    counts = ClientCounts(2)
    counts.assign_rows(["one", "two"])
    assert not counts.has_most_clients(0)
    counts.set_clients(0, "one", 2)
    assert not counts.has_most_clients(0)
    counts.set_clients(0, "two", 1)
    assert counts.has_most_clients(0) and not counts.has_most_clients(1)
    counts.set_clients(1, "one", 1)
    assert not counts.has_most_clients(0)


def test_children_share_it():
    counts = ClientCounts(2)
    counts.assign_rows([""])
    pid = os.fork()
    if not pid:
        counts.set_clients(1, "", 9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert counts.clients_of_pool("") == 9


def test_as_many_pools_as_there_are_rows():
    names = [str(number) for number in range(MAX_POOLS)]
    ClientCounts(2).assign_rows(names)
    with pytest.raises(StartError, match="at most 4096"):
        ClientCounts(2).assign_rows([*names, "one more"])


# -- what servers missed


@pytest.fixture
def invalidations():
    """Of one server, as each of three workers has them."""
    shared = SharedInvalidations(3)
    shared.assign_rows([CONFIG])
    return [shared.of_server(number, server_key("shop", False, "a:1")) for number in range(3)]


CONFIG = SimpleNamespace(name="shop", server=parse_servers("a:1,b:1"), backup=parse_servers("a:1"))
KEY = b"k"


def test_the_others_see_what_one_owes(invalidations):
    one, *others = invalidations
    one.add_part(part_of(KEY))
    stranger = next(key for key in map(b"%d".__mod__, range(100)) if part_of(key) != part_of(KEY))
    assert not one.others_have(KEY)
    assert all(other.others_have(KEY) and not other.others_have(stranger) for other in others)
    one.add_part(part_of(stranger))
    one.remove_parts([part_of(KEY)])
    assert all(other.others_have(stranger) and not other.others_have(KEY) for other in others)
    one.add_everything()
    assert others[0].others_have(KEY)
    one.replace_parts([])
    assert not others[0].others_have(KEY) and not others[0].others_have(stranger)
    one.add_part(part_of(KEY))
    assert not others[0].others_have(stranger), "what was before is forgotten"


def test_each_server_has_its_own_in_each_part_of_each_pool(invalidations):
    shared = SharedInvalidations(2)
    shared.assign_rows([CONFIG])
    mine, theirs = (
        [shared.of_server(number, server_key("shop", *server)) for server in [(False, "a:1"), (True, "a:1"), (False, "b:1")]]
        for number in range(2)
    )
    mine[0].add_part(part_of(KEY))
    assert [each.others_have(KEY) for each in theirs] == [True, False, False]
    assert shared.of_server(0, server_key("blog", False, "a:1")) is None
    shared.assign_rows([CONFIG, SimpleNamespace(name="blog", server=CONFIG.server, backup=[])])
    assert not shared.of_server(1, server_key("blog", False, "a:1")).others_have(KEY)
    assert shared.of_server(1, server_key("shop", False, "a:1")).others_have(KEY), "at a reload rows stay"


def test_a_worker_that_is_gone_owes_nothing():
    shared = SharedInvalidations(2)
    shared.assign_rows([CONFIG])
    one, other = (shared.of_server(number, server_key("shop", False, "a:1")) for number in range(2))
    one.add_part(part_of(KEY))
    shared.clear_worker(0)
    assert not other.others_have(KEY)


def test_more_servers_than_there_are_rows():
    shared = SharedInvalidations(1)
    shared.assign_rows(
        [SimpleNamespace(name="", server=[SimpleNamespace(label=str(number)) for number in range(MAX_SERVERS + 1)], backup=[])]
    )
    assert shared.of_server(0, server_key("", False, str(MAX_SERVERS - 1))) is not None
    assert shared.of_server(0, server_key("", False, str(MAX_SERVERS))) is None


def test_a_journal_tells_what_is_in_it(invalidations):
    """Whatever is done to it: what is in it is seen, and nothing once it is empty."""
    one, other, _ = invalidations
    chance = random.Random(1)
    journal = PendingInvalidations(1500)
    journal.shared = one
    keys = [b"key-%d" % number for number in range(2000)]
    in_hand = False
    for _ in range(5000):
        what = chance.choices(("note", "take", "done", "failed", "guests", "overflow", "clear"), (20, 10, 10, 3, 0.02, 0.02, 0.02))[0]
        if what == "note":
            journal.note(chance.choice(keys[:100]), 0.0)
        elif what == "guests":
            guests = KeySet()
            for key in keys[: chance.choice((10, 1200, 2000))]:
                guests.add(key)
            journal.note_all(guests, 0.0)
        elif what == "overflow":
            journal.note_everything(0.0)
        elif what == "clear" and not in_hand:
            journal.clear()
        elif what == "take" and not in_hand and journal:
            in_hand = True
            if journal.overflowed:
                journal.take_everything()
            else:
                journal.take(chance.choice((1, 5, 500)))
        elif what in ("done", "failed") and in_hand:
            in_hand = False
            journal.deleted() if what == "done" else journal.not_deleted()
        noticed = chance.sample(keys, 10) + keys[:10]
        assert all(other.others_have(key) for key in noticed if key in journal)
        assert bool(journal) == (other.states[0] != NOTHING)
    if in_hand:
        journal.deleted()
    while journal:
        journal.take_everything() if journal.overflowed else journal.take(100)
        journal.deleted()
    assert not any(map(other.others_have, keys))

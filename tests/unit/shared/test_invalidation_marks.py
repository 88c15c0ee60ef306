"""The shared memory in which each worker publishes the keys that it still has to delete on each server."""

import random
from types import SimpleNamespace

import pytest

from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet, part_of
from gmproxy.placement.server_spec import parse_servers
from gmproxy.process.shared_invalidations import MAX_SERVERS, NOTHING, SharedInvalidations, server_key


@pytest.fixture
def invalidations():
    """Those of one server, in each of three workers."""
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
    """Whatever operations are applied: its keys are found in the shared memory, and none when it is empty."""
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

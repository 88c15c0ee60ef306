"""The shared memory in which each worker publishes the keys that it still has to delete on each server."""

import random

import pytest

from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet
from gmproxy.shared import memory as memory_module
from gmproxy.shared.invalidation_marks import BACKUP, NOTHING, PRIMARY, InvalidationMarks, part_of, server_name
from gmproxy.shared.memory import SharedMemory


def marks_of(memory, column, name):
    memory.use(column)
    return InvalidationMarks(memory, memory.row_of(name), column)


@pytest.fixture
def invalidations():
    """Those of one server, in each of three workers."""
    memory = SharedMemory.create()
    return [marks_of(memory, column, server_name("shop", PRIMARY, "a:1")) for column in range(3)]


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


def test_each_server_has_its_own_in_each_role_of_each_pool():
    memory = SharedMemory.create()
    names = [server_name("shop", PRIMARY, "a:1"), server_name("shop", BACKUP, "a:1"), server_name("shop", PRIMARY, "b:1"),
             server_name("blog", PRIMARY, "a:1")]  # fmt: skip
    mine, theirs = ([marks_of(memory, column, name) for name in names] for column in range(2))
    mine[0].add_part(part_of(KEY))
    assert [each.others_have(KEY) for each in theirs] == [True, False, False, False]


def test_a_column_that_is_freed_has_no_marks():
    memory = SharedMemory.create()
    one, other = (marks_of(memory, column, "s") for column in memory.claim(2))
    one.add_part(part_of(KEY))
    memory.free(one.column)
    assert not other.others_have(KEY)


def test_more_servers_than_there_are_rows(monkeypatch):
    monkeypatch.setattr(memory_module, "MAX_ROWS", 2)
    memory = SharedMemory.create()
    assert [memory.row_of(name) for name in ("a", "b", "c", "b")] == [0, 1, None, 1]


def test_a_journal_tells_what_is_in_it(invalidations):
    """Whatever operations are applied: its keys are found in the shared memory, and none when it is empty."""
    one, other, _ = invalidations
    chance = random.Random(1)
    journal = PendingInvalidations(1500)
    journal.share(one, None, b"")
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

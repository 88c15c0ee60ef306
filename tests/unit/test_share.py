"""A worker's part of the service, and the board on which workers note their clients and what they owe servers."""

import os
import random
from types import SimpleNamespace

import pytest

from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.key_set import KeySet, part_of
from gmproxy.errors import StartError
from gmproxy.placement.server_spec import parse_servers
from gmproxy.process.shared_memory import (
    MAX_POOLS,
    MAX_SERVERS,
    NOTHING,
    Board,
    WorkerContext,
    debtor,
)


@pytest.mark.parametrize("total, workers, parts", [
    (20, 1, [20]), (20, 2, [10, 10]), (20, 3, [7, 7, 6]), (1, 3, [1, 1, 1]), (2, 3, [1, 1, 1]), (4, 3, [2, 1, 1]),
])
def test_a_part(total, workers, parts):
    assert [WorkerContext(number, workers).part_of(total) for number in range(workers)] == parts


def test_the_sum_of_all_workers():
    board = Board(3)
    board.assign(["one", "two"])
    for number in range(3):
        board.note(number, "one", 10 + number)
        board.note(number, "two", 1)
    assert (board.clients("one"), board.clients("two")) == (33, 3)
    board.wipe(1)
    assert (board.clients("one"), board.clients("two")) == (22, 2)


def test_pools_come_and_go():
    board = Board(2)
    board.assign(["one", "two"])
    board.note(0, "one", 5)
    board.note(0, "two", 7)
    board.assign(["two", "three"])
    assert (board.clients("one"), board.clients("two"), board.clients("three")) == (0, 7, 0)
    board.note(1, "one", 3)  # its last clients
    assert (board.clients("two"), board.clients("three")) == (7, 0)


def test_who_is_ahead_of_the_others():
    board = Board(2)
    board.assign(["one", "two"])
    assert not board.is_ahead(0)
    board.note(0, "one", 2)
    assert not board.is_ahead(0)
    board.note(0, "two", 1)
    assert board.is_ahead(0) and not board.is_ahead(1)
    board.note(1, "one", 1)
    assert not board.is_ahead(0)


def test_children_share_it():
    board = Board(2)
    board.assign([""])
    pid = os.fork()
    if not pid:
        board.note(1, "", 9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.clients("") == 9


def test_as_many_pools_as_there_are_rows():
    names = [str(number) for number in range(MAX_POOLS)]
    Board(2).assign(names)
    with pytest.raises(StartError, match="at most 4096"):
        Board(2).assign([*names, "one more"])


# -- what servers missed


@pytest.fixture
def debts():
    """Of one server, as each of three workers has them."""
    board = Board(3)
    board.enroll([CONFIG])
    return [board.debts(number, debtor("shop", False, "a:1")) for number in range(3)]


CONFIG = SimpleNamespace(name="shop", server=parse_servers("a:1,b:1"), backup=parse_servers("a:1"))
KEY = b"k"


def test_the_others_see_what_one_owes(debts):
    one, *others = debts
    one.owe(part_of(KEY))
    stranger = next(key for key in map(b"%d".__mod__, range(100)) if part_of(key) != part_of(KEY))
    assert not one.others_owe(KEY)
    assert all(other.others_owe(KEY) and not other.others_owe(stranger) for other in others)
    one.owe(part_of(stranger))
    one.paid([part_of(KEY)])
    assert all(other.others_owe(stranger) and not other.others_owe(KEY) for other in others)
    one.owe_everything()
    assert others[0].others_owe(KEY)
    one.owe_only([])
    assert not others[0].others_owe(KEY) and not others[0].others_owe(stranger)
    one.owe(part_of(KEY))
    assert not others[0].others_owe(stranger), "what was before is forgotten"


def test_each_server_has_its_own_in_each_part_of_each_pool(debts):
    board = Board(2)
    board.enroll([CONFIG])
    mine, theirs = (
        [board.debts(number, debtor("shop", *server)) for server in [(False, "a:1"), (True, "a:1"), (False, "b:1")]] for number in range(2)
    )
    mine[0].owe(part_of(KEY))
    assert [debts.others_owe(KEY) for debts in theirs] == [True, False, False]
    assert board.debts(0, debtor("blog", False, "a:1")) is None
    board.enroll([CONFIG, SimpleNamespace(name="blog", server=CONFIG.server, backup=[])])
    assert not board.debts(1, debtor("blog", False, "a:1")).others_owe(KEY)
    assert board.debts(1, debtor("shop", False, "a:1")).others_owe(KEY), "at a reload rows stay"


def test_a_worker_that_is_gone_owes_nothing():
    board = Board(2)
    board.enroll([CONFIG])
    one, other = (board.debts(number, debtor("shop", False, "a:1")) for number in range(2))
    one.owe(part_of(KEY))
    board.wipe(0)
    assert not other.others_owe(KEY)


def test_more_servers_than_there_are_rows():
    board = Board(1)
    board.enroll([SimpleNamespace(name="", server=[SimpleNamespace(label=str(number)) for number in range(MAX_SERVERS + 1)], backup=[])])
    assert board.debts(0, debtor("", False, str(MAX_SERVERS - 1))) is not None
    assert board.debts(0, debtor("", False, str(MAX_SERVERS))) is None


def test_a_journal_tells_what_is_in_it(debts):
    """Whatever is done to it: what is in it is seen, and nothing once it is empty."""
    one, other, _ = debts
    chance = random.Random(1)
    journal = PendingInvalidations(1500)
    journal.debts = one
    keys = [b"key-%d" % number for number in range(2000)]
    in_hand = False
    for _ in range(5000):
        what = chance.choices(("note", "take", "done", "failed", "guests", "overflow", "clear"), (20, 10, 10, 3, 0.02, 0.02, 0.02))[0]
        if what == "note":
            journal.note(chance.choice(keys[:100]), 0.0)
        elif what == "guests":
            guests = KeySet()
            for key in keys[:chance.choice((10, 1200, 2000))]:
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
        assert all(other.others_owe(key) for key in noticed if key in journal)
        assert bool(journal) == (other.alarms[0] != NOTHING)
    if in_hand:
        journal.deleted()
    while journal:
        journal.take_everything() if journal.overflowed else journal.take(100)
        journal.deleted()
    assert not any(map(other.others_owe, keys))

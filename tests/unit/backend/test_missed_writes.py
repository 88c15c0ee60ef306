"""Keys that may be stale on a server: after missed writes, in other workers, during a fill, and as keys of an ejected server."""

import logging

import pytest
from support.requests import request_for
from support.shared import column_of_test

from gmproxy.backend.missed_writes import MissedWrites
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.ejections import Ejections, Followers
from gmproxy.shared.invalidation_marks import PRIMARY
from gmproxy.shared.memory import SharedMemory

LIMIT = 3
FETCH, OTHER_FETCH = object(), object()


@pytest.fixture
def server():
    return MissedWrites("a:1", logging.getLogger("test"), LIMIT, column_of_test().notes)


@pytest.fixture
def workers():
    """The same server in two workers, which share their pending invalidations."""
    memory = SharedMemory.create()
    made = [MissedWrites("a:1", logging.getLogger("test"), LIMIT, column_of_test().notes) for _ in range(2)]
    for one in made:
        one.share(SharedColumn(memory), "", PRIMARY)
    return made


# -- missed writes


@pytest.mark.parametrize(
    "line, keys, stale",
    [
        (b"set a 0 0 1\r\nx\r\n", None, [b"a"]),
        (b"gat 5 a b\r\n", [b"a", b"b"], [b"a", b"b"]),
        (b"delete a\r\n", None, [b"a"]),
    ],
)
def test_the_keys_of_a_missed_write_may_be_stale(server, line, keys, stale):
    assert not server.may_have_stale_keys()
    server.missed_write(request_for(line, keys))
    assert server.behind and server.may_have_stale_keys()
    assert [key for key in (b"a", b"b", b"c") if server.may_be_stale(key)] == stale
    assert [key for key in (b"a", b"b", b"c") if server.may_be_stale(key)] == stale


def test_after_a_missed_flush_every_key_may_be_stale(server):
    server.missed_everything()
    assert server.may_be_stale(b"any") and server.invalidations.overflowed


def test_more_keys_than_are_remembered_are_logged_once(server, caplog):
    for number in range(2 * LIMIT):
        server.missed_key(b"%d" % number)
    assert server.may_be_stale(b"any")
    assert caplog.text.count("journal overflowed server=a:1 keys=3") == 1


# -- of other workers


def test_a_key_that_another_worker_has_still_to_delete_is_not_read(workers):
    one, other = workers
    one.missed_key(b"a")
    assert other.may_have_stale_keys() and not other.behind
    assert other.may_be_stale(b"a") and other.others_may_delete(b"a")
    assert one.may_be_stale(b"a") and not one.others_may_delete(b"a")


def test_of_a_server_that_was_removed_nothing_is_pending(workers):
    one, other = workers
    one.missed_key(b"a")
    one.share(None, "", "")
    assert not other.may_have_stale_keys() and not one.may_be_stale(b"a")


def test_missed_writes_that_an_operator_drops(workers):
    one, other = workers
    one.missed_key(b"a")
    one.missed_everything()
    one.forget_missed_writes()
    assert not one.behind and not one.may_be_stale(b"a") and not other.may_be_stale(b"a")


# -- fills


def test_the_first_fetch_of_a_key_fills_it(server):
    server.start_fill(b"a", FETCH)
    server.start_fill(b"a", OTHER_FETCH)
    assert not server.end_fill(b"a", OTHER_FETCH)
    assert server.end_fill(b"a", FETCH) and not server.end_fill(b"a", FETCH)


@pytest.mark.parametrize(
    "event",
    [
        lambda server: server.void_fills_of_write(request_for(b"set a 0 0 1\r\nx\r\n")),
        lambda server: server.missed_key(b"a"),
        lambda server: server.missed_everything(),
        lambda server: server.void_all_fills(),
    ],
    ids=["a write is sent", "a write was missed", "a flush was missed", "all"],
)
def test_a_value_that_may_be_stale_by_now_is_no_fill(server, event):
    server.start_fill(b"a", FETCH)
    event(server)
    assert not server.end_fill(b"a", FETCH)


@pytest.mark.parametrize("line", [b"gat 5 a\r\n", b"set other 0 0 1\r\nx\r\n"])
def test_what_leaves_the_value_as_it_is_voids_no_fill(server, line):
    server.start_fill(b"a", FETCH)
    server.void_fills_of_write(request_for(line))
    assert server.end_fill(b"a", FETCH)


# -- keys of a server for which it is the stand-in


# -- fills beside other workers


@pytest.fixture
def filler(workers):
    """The server in the worker that fills."""
    return workers[0]


@pytest.fixture
def others(workers):
    """The notes of the other worker."""
    return workers[1].notes


ENDS = {
    "nothing to add": lambda server: server.end_fill(b"k", FETCH) and server.fill_written(b"k"),
    "of another": lambda server: (server.end_fill(b"k", OTHER_FETCH), server.end_fill(b"k", FETCH), server.fill_written(b"k")),
    "a write": lambda server: server.void_fills_of_write(request_for(b"delete k\r\n")),
    "a missed write": lambda server: server.missed_key(b"k"),
    "a flush": lambda server: server.missed_everything(),
    "other routes": lambda server: server.void_all_fills(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_fill_is_noted_until_it_ends(filler, others, end):
    filler.start_fill(b"k", FETCH)
    filler.start_fill(b"k", OTHER_FETCH)
    assert others.fills_are_elsewhere(b"k")
    ENDS[end](filler)
    assert not others.any_fills_are_elsewhere() and not filler.fetches


def test_while_it_is_sent_no_other_begins(filler, others):
    filler.start_fill(b"k", FETCH)
    assert filler.end_fill(b"k", FETCH) and others.fills_are_elsewhere(b"k")
    filler.start_fill(b"k", OTHER_FETCH)
    assert not filler.end_fill(b"k", OTHER_FETCH) and others.fills_are_elsewhere(b"k")
    filler.void_all_fills()
    assert others.fills_are_elsewhere(b"k"), "it may still arrive"
    filler.fill_written(b"k")
    filler.fill_written(b"k")
    assert not others.any_fills_are_elsewhere() and not filler.behind


@pytest.mark.parametrize("is_over", [True, False])
def test_a_value_that_another_worker_has_changed_meanwhile_is_no_fill(filler, others, is_over):
    filler.start_fill(b"k", FETCH)
    note = others.begin_change(b"k", 1, PRIMARY_WORD)
    if is_over:
        others.end_note(note)
    assert not filler.end_fill(b"k", FETCH)
    assert not others.any_fills_are_elsewhere() and not filler.behind


def test_what_another_worker_changed_before_is_a_fill(filler, others):
    others.end_note(others.begin_change(b"k", 1, PRIMARY_WORD))
    filler.start_fill(b"k", FETCH)
    assert filler.end_fill(b"k", FETCH)


def test_a_change_that_did_not_wait(filler, others):
    """It has looked for fills before this one began, and began itself when the value was being sent: the key is deleted after it has arrived."""
    filler.start_fill(b"k", FETCH)
    assert filler.end_fill(b"k", FETCH)
    others.begin_change(b"k", 1, PRIMARY_WORD)
    filler.fill_written(b"k")
    assert b"k" in filler.invalidations and not others.any_fills_are_elsewhere()


# -- ejections that other workers have not followed


def test_another_worker_may_have_stand_in_keys_to_delete(workers, monkeypatch):
    """It has not followed an ejection: until then it does not know that they are stale."""
    one, other = workers
    assert not one.may_lag()
    memory, row = SharedMemory.create(), 5
    for number, server in enumerate(workers):
        server.followers = Followers(memory, row, number)
        memory.use(number)
    Ejections(memory, 0, 0).publish(True)
    assert not one.may_lag(), "it has none"
    other.add_stand_in_key(b"k")
    assert one.may_lag() and not other.may_lag()
    other.followers.publish(memory.stamp[0])
    assert not one.may_lag()
    Ejections(memory, 0, 0).publish(False)
    assert one.may_lag()
    other.drop_stand_in_keys()
    assert not one.may_lag() and one.others_may_delete(b"k")


def test_a_stand_in_key_is_stale_once_its_own_server_has_a_write(server):
    server.add_stand_in_key(b"a")
    assert server.may_be_stand_in_key(b"a") and not server.may_be_stand_in_key(b"b")
    server.drop_stand_in_key(b"b")
    assert not server.behind
    server.drop_stand_in_key(b"a")
    assert server.may_be_stale(b"a") and not server.may_be_stand_in_key(b"a")


def test_with_more_stand_in_keys_than_are_remembered_any_key_may_be_one(server, caplog):
    for number in range(2 * LIMIT):
        server.add_stand_in_key(b"%d" % number)
    assert server.may_be_stand_in_key(b"any")
    assert caplog.text.count("guests overflowed server=a:1 keys=3") == 1
    server.drop_stand_in_key(b"any")
    assert server.may_be_stale(b"any")


def test_when_another_server_has_them_again_more_than_are_remembered_are_flushed(server):
    for number in range(2 * LIMIT):
        server.add_stand_in_key(b"%d" % number)
    server.drop_stand_in_keys()
    assert server.invalidations.overflowed and not server.may_be_stand_in_key(b"any")

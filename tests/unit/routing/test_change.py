"""A change of a key: its parts, its note, and what other requests are parts of it."""

import pytest
from support.replication import DELETE, POOL, Play
from support.requests import parsed_request, request_for
from support.routes import Client

from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import COPY, INTERNAL_ERROR, PRIMARY
from gmproxy.routing.change import Change, NotedFlush, PartOfChanges
from gmproxy.shared.changes import BACKUP_WORD, PRIMARY_WORD
from gmproxy.shared.keys_in_flight import keys_left, tag_of

TOUCH = COMMANDS[b"touch"], b"touch k 9\r\n"


def begin(play, key=b"k", word=PRIMARY_WORD):
    change = Change.__new__(Change)
    change.begin(play.primary, [play.backup], key, word, play.counters)
    return change


def change_elsewhere(play, key=b"k"):
    """Another worker changes `key`, from its begin to its end."""
    play.other.end_note(play.other.begin_change(key, 1, PRIMARY_WORD))


def test_it_is_noted_before_anything_is_sent():
    play = Play()
    change = begin(play)
    assert play.other.are_under_way(b"k") and play.primary.sent == play.backup.sent == []
    assert list(keys_left(play.memory.keys_of(0))) == [(tag_of(POOL), b"k")]
    change.end()
    change.end()
    assert not play.other.are_under_way(b"k") and play.in_flight() == []


def test_it_ends_with_its_last_part():
    play = Play()
    change = begin(play)
    change.add_part()
    change.send_copies(*TOUCH)
    change.send_copies(*TOUCH)
    assert change.parts == 3 and [copy.role for copy in play.backup.sent] == [COPY] * 2
    play.answer(play.backup.sent[0], b"TOUCHED\r\n")
    change.end_part()
    assert play.in_flight() == [b"k"]
    play.fail(play.backup.sent[1])
    assert play.in_flight() == [] and play.counters.backup_writes_lost == 1


@pytest.mark.parametrize("word", [PRIMARY_WORD, BACKUP_WORD])
def test_a_contested_change_is_deleted_on_the_backup_once(word):
    """If the primary was not sent it, it may have the other change alone."""
    play = Play()
    change = begin(play, word=word)
    change.add_part()
    change_elsewhere(play)
    assert change.is_contested() and play.backup.sent == []
    change.end_part()
    assert play.backup.lines == [DELETE] and play.counters.conflicting_changes == 1
    assert (b"k" in play.primary.invalidations) == (word == BACKUP_WORD)
    assert play.in_flight() == [b"k"], "until the key is deleted"
    change_elsewhere(play)
    play.answer(play.backup.sent[0], b"NOT_FOUND\r\n")
    assert play.backup.lines == [DELETE], "that other change deletes it again"
    assert play.in_flight() == []


@pytest.mark.parametrize("takes", [False, True])
def test_the_delete_of_a_contested_change_cannot_be_sent(takes, monkeypatch, internal_errors_counted):
    play = Play()
    change = begin(play)
    change.add_part()
    change_elsewhere(play)
    send = type(play.backup).send

    def fail(server, request):
        if takes:
            send(server, request)
        raise ValueError("of the test")

    monkeypatch.setattr(type(play.backup), "send", fail)
    change.end_part()
    for request in play.backup.sent:
        play.answer(request, b"DELETED\r\n")
    assert play.in_flight() == [] and b"k" in play.backup.invalidations and internal_errors_counted() == 1


def test_a_fill_is_void_when_the_copy_is_deleted():
    play = Play()
    change = begin(play)
    play.primary.start_fill(b"k", play)
    change.delete_copies()
    assert not play.primary.end_fill(b"k", play)
    play.answer(play.backup.sent[0], b"DELETED\r\n")
    assert play.in_flight() == []


def test_the_backup_makes_it_and_the_key_is_deleted_on_the_primary():
    play = Play()
    change = begin(play, word=BACKUP_WORD)
    change.delete_on_primary()
    (delete,) = play.primary.sent
    assert (delete.line, delete.role, change.parts) == (DELETE, PRIMARY, 1)
    play.fail(delete)
    assert play.in_flight() == [] and play.counters.backup_writes_lost == 0 and b"k" in play.primary.invalidations


def test_after_an_internal_error_both_servers_are_in_doubt(monkeypatch, internal_errors_counted):
    play = Play()
    begin(play).invalidate()
    assert b"k" in play.primary.invalidations and b"k" in play.backup.invalidations
    play = Play()
    missed = type(play.primary).missed_key

    def fail(server, key):
        if server is play.primary:
            raise ValueError("of the test")
        missed(server, key)

    monkeypatch.setattr(type(play.primary), "missed_key", fail)
    begin(play).invalidate()
    assert b"k" in play.backup.invalidations and internal_errors_counted() == 1


# -- requests that are parts of changes


OUTCOMES = {
    "reply": (lambda request: request.complete(), b"1\r\n"),
    "failure": (lambda request: request.fail("timeout", "a:1"), ("timeout", "a:1")),
    "internal error": (lambda request: request.abandon(), INTERNAL_ERROR),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_part_of_several_changes(outcome):
    end, heard = OUTCOMES[outcome]
    play = Play()
    changes = [begin(play, key) for key in (b"j", b"k")]
    request = request_for(b"gat 9 j k\r\n", [b"j", b"k"])
    request.sink = client = Client()
    PartOfChanges.__new__(PartOfChanges).begin(request, changes)
    assert [change.parts for change in changes] == [1, 1]
    changes[1].send_copies(*TOUCH)
    request.reply = b"1\r\n"
    assert end(request) is client and client.heard == [heard]
    assert end(request) is None and client.heard == [heard]
    assert play.in_flight() == [b"k"]
    play.answer(play.backup.sent[0], b"TOUCHED\r\n")
    assert play.in_flight() == []


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_key_is_under_way_during_a_flush_all(outcome):
    end, heard = OUTCOMES[outcome]
    play = Play()
    request = parsed_request(b"flush_all\r\n")
    request.sink = client = Client()
    NotedFlush.__new__(NotedFlush).begin(request, play.primary.notes)
    assert play.other.are_under_way(b"any")
    note = play.other.begin_change(b"k", 1, PRIMARY_WORD)
    assert play.other.is_contested(note)
    request.reply = b"1\r\n"
    assert end(request) is client and client.heard == [heard] and end(request) is None
    assert not play.other.are_under_way(b"any")

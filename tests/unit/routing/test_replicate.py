"""Which copies of writes a backup receives, and who decides them while another worker changes the same keys."""

import itertools

import pytest
from support.replication import DELETE, INCR, SET, STORED, Play
from support.requests import request_for

from gmproxy.protocol.request import BACKUP, COPY, INTERNAL_ERROR
from gmproxy.routing.sets import Copies
from gmproxy.shared.changes import BACKUP_WORD, PRIMARY_WORD
from gmproxy.shared.invalidation_marks import part_of

ADD = b"add k 1 2 1\r\nx\r\n"
GAT = b"gat 9 k\r\n"
TOUCH = b"touch k 9\r\n"


# -- a server that is its own backup


@pytest.mark.parametrize("line", [SET, INCR, b"add k 1 2 1\r\nx\r\n", b"gat 9 k\r\n"])
def test_a_server_hears_nothing_twice(line):
    play = Play(backup_port=1)
    change = play.ask(line)
    assert play.backup.sent == []
    play.answer(change, STORED)
    assert play.client.heard == [STORED]


@pytest.mark.parametrize("line", [SET, INCR, b"add k 1 2 1\r\nx\r\n"])
def test_nor_after_it_failed(line):
    play = Play(backup_port=1)
    play.fail(play.ask(line))
    assert (play.backup.sent, play.client.heard) == ([], [("timeout", "127.0.0.1:1")])


# -- notes for the other workers


@pytest.mark.parametrize("line", [SET, INCR, ADD, DELETE])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_write_is_noted_until_both_servers_have_replied(line, sync):
    play = Play(sync)
    request = play.ask(line)
    assert play.other.are_under_way(b"k") and not play.other.are_under_way(b"another") and play.in_flight() == [b"k"]
    play.answer(request, STORED)
    assert play.other.are_under_way(b"k"), "the backup has not replied"
    play.answer(play.backup.sent[-1], STORED)
    assert not play.other.are_under_way(b"k") and play.in_flight() == [] and play.counters.conflicting_changes == 0


def test_a_conditional_write_that_changes_nothing_ends_at_once():
    play = Play()
    play.answer(play.ask(ADD), b"NOT_STORED\r\n")
    assert play.in_flight() == []


@pytest.mark.parametrize("outcomes", list(itertools.product(["reply", "failure", "internal error"], repeat=2)), ids="-".join)
@pytest.mark.parametrize("line", [SET, INCR, ADD, GAT])
@pytest.mark.parametrize("primary_first", [True, False])
def test_whatever_becomes_of_it_its_note_ends(line, outcomes, primary_first):
    play = Play()

    def end(request, outcome):
        if outcome == "reply":
            play.answer(request, STORED)
        elif outcome == "failure":
            play.fail(request)
        else:
            play.server_of(request).request_abandoned(request)

    play.ask(line)
    servers = [(play.primary, outcomes[0]), (play.backup, outcomes[1])]
    ended = {play.primary: 0, play.backup: 0}
    for _ in range(4):  # the end of one may lead to a further request
        for server, outcome in servers if primary_first else servers[::-1]:
            for request in server.sent[ended[server] :]:
                ended[server] += 1
                end(request, outcome)
    assert play.in_flight() == [] and len(play.client.heard) == 1 and len(play.undecided) == 0


def test_a_touch_that_ends_several_items_is_a_change_of_each():
    play = Play()
    request = play.ask(b"gat -1 j k\r\n", [b"j", b"k"])
    assert play.in_flight() == [b"j", b"k"] and play.backup.lines == [b"touch j -1\r\n", b"touch k -1\r\n"]
    play.answer(play.backup.sent[0], b"TOUCHED\r\n")
    play.answer(request, b"END\r\n")
    assert play.in_flight() == [b"k"]
    play.answer(play.backup.sent[1], b"TOUCHED\r\n")
    assert play.in_flight() == []


@pytest.mark.parametrize("line", [b"gat 9 k\r\n", b"touch k 9\r\n"])
def test_a_touch_that_changes_no_value_is_not_noted(line):
    """Two workers that touch one key all the time would delete it on the backup, without need."""
    play = Play()
    request = play.ask(line)
    play.other.end_note(play.other.begin_change(b"k", 1, PRIMARY_WORD))
    assert play.in_flight() == [] and not play.other.are_under_way(b"k") and len(play.backup.sent) == 1
    play.answer(play.backup.sent[0], b"TOUCHED\r\n")
    play.answer(request, b"TOUCHED\r\n" if line.startswith(b"touch") else b"END\r\n")
    assert len(play.backup.sent) == 1 and play.counters.conflicting_changes == 0 and len(play.client.heard) == 1


def test_a_server_that_is_its_own_backup_needs_no_notes():
    play = Play(backup_port=1)
    play.ask(SET)
    assert play.in_flight() == []


# -- while another worker changes the key


@pytest.mark.parametrize("line", [SET, INCR, DELETE])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_it_is_deleted_on_the_backup_exactly_if_another_change_overlaps_it(line, sync):
    """In every order of the two replies and of the begin and end of a change of another worker. The client gets the primary's reply."""
    for order in itertools.permutations(("ask", "primary", "backup", "begin", "end")):
        at = order.index
        if at("ask") > min(at("primary"), at("backup")) or at("begin") > at("end"):
            continue
        play = Play(sync)
        for event in order:
            if event == "ask":
                request = play.ask(line)
            elif event == "primary":
                play.answer(request, b"1\r\n")
            elif event == "backup":
                play.answer(play.backup.sent[0], b"1\r\n")
            elif event == "begin":
                note = play.other.begin_change(b"k", 1, PRIMARY_WORD)
            else:
                play.other.end_note(note)
        overlaps = at("begin") < max(at("primary"), at("backup")) and at("end") > at("ask")
        assert play.backup.lines == [line] + [DELETE] * overlaps, order
        assert play.counters.conflicting_changes == overlaps
        assert play.other.are_under_way(b"k") == overlaps, "until the key is deleted"
        if overlaps:
            play.answer(play.backup.sent[1], b"DELETED\r\n")
        assert play.in_flight() == [] and play.client.heard == [b"1\r\n"]


def test_what_is_being_fetched_does_not_fill_the_primary_then():
    play = Play()
    request = play.ask(SET)
    play.primary.start_fill(b"k", play)
    note = play.other.begin_change(b"k", 1, PRIMARY_WORD)
    play.other.end_note(note)
    play.answer(request, STORED)
    play.answer(play.backup.sent[0], STORED)
    assert not play.primary.end_fill(b"k", play) and play.backup.lines == [SET, DELETE]


def test_the_delete_on_the_backup_may_be_lost():
    """Then the key is pending there."""
    play = Play()
    play.other.begin_change(b"k", 1, PRIMARY_WORD)
    request = play.ask(SET)
    play.answer(request, STORED)
    play.answer(play.backup.sent[0], STORED)
    play.fail(play.backup.sent[1])
    assert play.in_flight() == [] and b"k" in play.backup.invalidations and play.counters.backup_writes_lost == 1


@pytest.mark.parametrize("line, reply", [(INCR, ("timeout", "127.0.0.1:1")), (SET, STORED)])
def test_the_backup_does_not_reply_for_the_primary_if_the_result_depends_on_the_old_value(line, reply):
    """Whether it has the change of the other worker already is unknown."""
    play = Play()
    request = play.ask(line)
    play.other.begin_change(b"k", 1, PRIMARY_WORD)
    play.fail(request)
    play.answer(play.backup.sent[0], STORED)
    assert play.client.heard == [reply]


def test_nor_does_it_decide_a_conditional_write():
    play = Play()
    request = play.ask(ADD)
    play.other.begin_change(b"k", 1, PRIMARY_WORD)
    play.fail(request)
    assert play.backup.lines == [DELETE] and play.client.heard == [("timeout", "127.0.0.1:1")]
    play.answer(play.backup.sent[0], b"NOT_FOUND\r\n")
    assert play.in_flight() == []


# -- the backup in the place of the primary


def eject(play):
    play.primary.health.eject_by_hand(1000.0)


@pytest.mark.parametrize("line", [INCR, b"append k 1 2 1\r\nx\r\n"])
@pytest.mark.parametrize(
    "why", [eject, lambda play: play.other_marks.add_part(part_of(b"k"))], ids=["ejected", "pending in another worker"]
)
def test_a_write_that_depends_on_the_old_value_is_made_by_the_backup(line, why):
    """The primary does not have that value: the key is deleted there."""
    play = Play()
    why(play)
    request = play.ask(line)
    assert play.primary.lines == [DELETE] and play.backup.sent == [request] and request.role == BACKUP
    assert play.in_flight() == [b"k"] and not play.other.are_under_way(b"k"), "the backup lacks nothing"
    play.answer(request, b"6\r\n")
    play.fail(play.primary.sent[0], "ejected")
    assert play.client.heard == [b"6\r\n"] and play.in_flight() == [] and b"k" in play.primary.invalidations


def test_not_while_another_worker_has_a_change_that_may_be_missing_there():
    play = Play()
    eject(play)
    note = play.other.begin_change(b"k", 1, PRIMARY_WORD)
    play.ask(INCR)
    assert play.client.heard == [("ejected", "127.0.0.1:1")] and play.backup.sent == play.primary.sent == [] and play.in_flight() == []
    play.other.end_note(note)
    play.other.begin_change(b"k", 1, BACKUP_WORD)
    assert play.backup.sent == [] and play.ask(INCR) in play.backup.sent


def test_changes_that_the_backup_alone_makes_are_not_deleted():
    """They have one order."""
    play = Play()
    eject(play)
    play.other.begin_change(b"k", 1, BACKUP_WORD)
    request = play.ask(SET)
    play.fail(request, "ejected")
    play.answer(play.backup.sent[0], STORED)
    assert play.backup.lines == [SET] and play.client.heard == [STORED] and play.in_flight() == []


def test_another_key_of_the_part_is_sent_to_the_backup_as_well():
    """That costs a delete, and no wrong reply."""
    play = Play()
    other = next(key for key in map(b"%d".__mod__, range(10**6)) if part_of(key) == part_of(b"k"))
    play.other_marks.add_part(part_of(other))
    play.ask(INCR)
    assert play.primary.lines == [DELETE]


# -- exceptions


class Broken:
    """A server whose `send` raises, before or after it has taken the request."""

    def __init__(self, server, monkeypatch, takes):
        send = type(server).send

        def fail(one, request):
            if one is not server:
                return send(one, request)
            if takes:
                send(one, request)
            raise ValueError("of the test")

        monkeypatch.setattr(type(server), "send", fail)


@pytest.mark.parametrize("line", [SET, INCR, ADD, GAT])
@pytest.mark.parametrize("broken", ["primary", "backup"])
@pytest.mark.parametrize("takes", [False, True], ids=["before", "after"])
def test_no_note_is_left_by_an_internal_error(line, broken, takes, monkeypatch, internal_errors_counted):
    play = Play()
    request = request_for(line)
    request.sink = play.client
    with monkeypatch.context() as patched:
        Broken(getattr(play, broken), patched, takes)
        try:
            play.route.send(request)
        except ValueError:
            request.abandon()
        if broken == "backup" and request in play.primary.sent:
            play.answer(request, STORED)
    for copy in play.backup.sent:
        play.answer(copy, STORED)
    assert play.in_flight() == [] and len(play.client.heard) == 1 and len(play.undecided) == 0
    assert internal_errors_counted() == (broken == "backup")


def test_a_copy_that_cannot_be_sent_is_pending(monkeypatch, internal_errors_counted):
    play = Play()
    Broken(play.backup, monkeypatch, False)
    request = play.ask(SET)
    assert play.primary.sent == [request] and play.client.heard == [INTERNAL_ERROR] and b"k" in play.backup.invalidations
    assert play.in_flight() == [b"k"]
    play.answer(request, STORED)
    assert play.in_flight() == [] and internal_errors_counted() == 1 and play.client.heard == [INTERNAL_ERROR]


def test_a_touch_that_cannot_be_copied_is_made(monkeypatch, internal_errors_counted):
    play = Play()
    Broken(play.backup, monkeypatch, False)
    request = play.ask(GAT)
    play.answer(request, b"END\r\n")
    assert play.client.heard == [b"END\r\n"] and b"k" in play.backup.invalidations and play.in_flight() == []
    assert internal_errors_counted() == 1


class FailingCopies(Copies):
    """Raises for the key `k`."""

    def of(self, key):
        if key == b"k":
            raise ValueError("of the test")
        return Copies.of(self, key)


def test_the_second_of_two_keys_cannot_be_noted():
    play = Play(copies=FailingCopies)
    with pytest.raises(ValueError, match="of the test"):
        play.ask(b"gat 9 j k\r\n", [b"j", b"k"])
    assert play.in_flight() == [] and play.backup.sent == []


def test_copies_have_the_role_of_copies():
    play = Play()
    play.ask(SET)
    assert [request.role for request in play.backup.sent] == [COPY]

"""One write and its copy, whose replies the client gets: with servers that only record, in every order of events."""

import gc
import itertools
import weakref

import pytest
from support.replication import DELETE, INCR, SET, STORED, Play, backup_set
from support.routes import KeepingServer

from gmproxy.protocol.request import BACKUP, COPY, INTERNAL_ERROR
from gmproxy.routing.replicated_write import ConditionalWrite, ReplicatedWrite
from gmproxy.routing.sets import Copies
from gmproxy.shared.changes import PRIMARY_WORD


def test_a_fault_while_the_copy_answers_for_the_primary(monkeypatch, internal_errors_counted):
    """The write is abandoned, not the copy, whose reply is not awaited."""

    def fail(*arguments):
        raise ValueError("of our own")

    monkeypatch.setattr("gmproxy.routing.replicated_write.mark_cas_number", fail)
    play = Play()
    change = play.ask(INCR)
    (copy,) = play.backup.sent
    play.fail(change)
    play.answer(copy, b"6\r\n")
    assert play.client.heard == [INTERNAL_ERROR] and internal_errors_counted() == 1


# -- one write, in every order of events


EVENTS = {
    "primary answers": lambda play, change, copy: play.answer(change, b"6\r\n"),
    "primary fails": lambda play, change, copy: play.fail(change),
    "backup answers": lambda play, change, copy: play.answer(copy, b"6\r\n"),
    "backup fails": lambda play, change, copy: play.fail(copy),
}


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(
    "primary, backup", list(itertools.product(["primary answers", "primary fails"], ["backup answers", "backup fails"]))
)
@pytest.mark.parametrize("primary_first", [True, False])
def test_the_client_hears_once_and_as_soon_as_it_may(sync, primary, backup, primary_first):
    play = Play(sync)
    change = play.ask(INCR)
    (copy,) = play.backup.sent
    step = change.sink
    assert (type(step), copy.sink, copy.role, play.primary.sent) == (ReplicatedWrite, step, COPY, [change])
    order = [primary, backup] if primary_first else [backup, primary]
    heard = []
    for event in order:
        before = len(play.client.heard)
        session = EVENTS[event](play, change, copy)
        assert (session is play.client) == (len(play.client.heard) > before)
        heard.append(len(play.client.heard))
    last = play.backup if primary_first else play.primary
    both_fail = (primary, backup) == ("primary fails", "backup fails")
    assert play.client.heard == [("timeout", last.label) if both_fail else b"6\r\n"]
    at_once = primary_first and primary == "primary answers" and not sync
    assert heard == ([1, 1] if at_once else [0, 1])
    assert (play.primary.sent, play.backup.sent) == ([change], [copy])  # no further request was needed
    assert play.counters.backup_writes_lost == (backup == "backup fails")
    assert change.sink is copy.sink is step.sink is None, "no circle is left"


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_backup_that_answers_otherwise(sync):
    for first, second in ((0, 1), (1, 0)):
        play = Play(sync)
        change = play.ask(INCR)
        pair = [(change, b"6\r\n"), (play.backup.sent[0], b"7\r\n")]
        play.answer(*pair[first])
        play.answer(*pair[second])
        assert play.backup.lines == [INCR, b"delete k\r\n"]
        assert (play.counters.backup_writes_differed, play.client.heard) == (1, [b"6\r\n"])


TOO_LARGE = b"SERVER_ERROR object too large for cache\r\n"


@pytest.mark.parametrize(
    "line, replies", [(SET, (TOO_LARGE, STORED)), (SET, (STORED, TOO_LARGE)), (b"ms k 1\r\nx\r\n", (TOO_LARGE, b"HD\r\n"))]
)
@pytest.mark.parametrize("primary_first", [True, False])
def test_a_set_that_one_of_the_two_refuses(line, replies, primary_first):
    """It has removed its old value, and the other has the new one: the key is deleted on the backup, and what is being fetched is not filled."""
    play = Play()
    change = play.ask(line)
    play.primary.start_fill(b"k", play)
    pair = list(zip((change, play.backup.sent[0]), replies))
    for request, reply in pair if primary_first else reversed(pair):
        play.answer(request, reply)
    assert play.backup.lines == [line, b"delete k\r\n"]
    assert not play.primary.end_fill(b"k", play)
    assert play.client.heard == [replies[0]]


@pytest.mark.parametrize(
    "line, reply, gone",
    [
        (b"ms k 1 C5\r\nx\r\n", TOO_LARGE, True),
        (b"ms k 1 C5\r\nx\r\n", b"EX\r\n", False),
        (b"replace k 0 0 1\r\nx\r\n", TOO_LARGE, False),
    ],
)
def test_a_conditional_write_that_the_primary_refuses(line, reply, gone):
    """A refused ms has removed the value on the primary, whatever its condition: so it is deleted on the backup."""
    play = Play()
    change = play.ask(line)
    play.primary.start_fill(b"k", play)
    play.answer(change, reply)
    assert play.backup.lines == [b"delete k\r\n"] * gone
    assert play.primary.end_fill(b"k", play) != gone
    assert play.client.heard == [reply]


def test_a_reply_of_the_backup_has_its_cas_number_marked():
    play = Play()
    change = play.ask(b"ms k 1 c\r\nx\r\n")
    play.fail(change)
    play.answer(play.backup.sent[0], b"HD c5\r\n")
    assert play.client.heard == [b"HD c%d\r\n" % (1 << 56 | 5)]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("abandoned", ["change", "copy"])
@pytest.mark.parametrize("other", ["before", "after", "never"])
def test_a_fault_of_our_own_leaves_both_servers_in_doubt(sync, abandoned, other):
    """The client gets one reply, and the key is deleted on both."""
    play = Play(sync)
    change = play.ask(INCR)
    (copy,) = play.backup.sent
    one, two = (change, copy) if abandoned == "change" else (copy, change)
    if other == "before":
        play.answer(two, b"6\r\n")
    play.server_of(one).request_abandoned(one)
    if other == "after":
        play.answer(two, b"6\r\n")
    answered = other == "before" and abandoned == "copy" and not sync
    assert play.client.heard == [b"6\r\n" if answered else INTERNAL_ERROR]
    assert b"k" in play.primary.invalidations and b"k" in play.backup.invalidations


# -- conditional writes


@pytest.mark.parametrize("line", [b"add k 1 2 1\r\nx\r\n", b"replace k 1 2 1\r\nx\r\n", b"cas k 1 2 1 77\r\nx\r\n"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_what_was_stored_is_copied(line, sync):
    play = Play(sync)
    change = play.ask(line)
    assert play.backup.sent == [] and len(play.undecided) == 1
    play.answer(change, STORED)
    assert play.backup.lines == [SET] and len(play.undecided) == 0
    assert play.client.heard == ([] if sync else [STORED])
    play.answer(play.backup.sent[0], STORED)
    assert play.client.heard == [STORED]
    assert change.sink is play.backup.sent[0].sink is None


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("reply, differed", [(STORED, 0), (b"SERVER_ERROR out of memory\r\n", 1)])
def test_a_backup_that_answers_at_once_is_compared_once(sync, reply, differed):
    """A route may complete the request before `send` returns."""

    class Hasty(KeepingServer):
        def send(self, request):
            super().send(request)
            return self.answer(request, reply)

    hasty = Hasty(2, set_index=1)
    play = Play(sync, copies=lambda sets: Copies([backup_set([hasty])]))
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    assert play.answer(change, STORED) is play.client
    assert hasty.lines == [SET] + [b"delete k\r\n"] * differed
    assert (play.counters.backup_writes_differed, play.client.heard) == (differed, [STORED])


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_copy_that_is_lost_keeps_nobody_waiting(sync):
    play = Play(sync)
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    play.answer(change, STORED)
    play.fail(play.backup.sent[0])
    assert (play.client.heard, play.counters.backup_writes_lost) == ([STORED], 1)


@pytest.mark.parametrize("reply", [b"NOT_STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n", b"SERVER_ERROR out of memory storing object\r\n"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_what_was_not_stored_is_not_copied(reply, sync):
    play = Play(sync)
    play.answer(play.ask(b"cas k 1 2 1 77\r\nx\r\n"), reply)
    assert (play.backup.sent, play.client.heard, len(play.undecided)) == ([], [reply], 0)


@pytest.mark.parametrize("other", [SET, INCR, b"delete k\r\n", b"gat 9 k\r\n", "several", "flush"])
def test_what_another_change_overtook_is_deleted(other):
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    if other == "flush":
        play.undecided.supersede_all()
    elif other == "several":
        play.ask(b"gat 9 j k\r\n", [b"j", b"k"])
        assert play.backup.lines == [b"touch j 9\r\n", b"touch k 9\r\n"]
    else:
        play.ask(other)
    play.answer(change, STORED)
    assert play.backup.lines[-1] == b"delete k\r\n"
    assert play.client.heard == [STORED] and len(play.undecided) == 0


def test_changes_of_other_keys_overtake_nothing():
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    play.ask(b"set l 0 0 1\r\nx\r\n")
    play.ask(b"gat 9 j l\r\n", [b"j", b"l"])
    play.answer(change, STORED)
    assert play.backup.lines[-1] == SET


def test_what_the_backup_answered_itself_is_not_copied_to_it():
    play = Play()
    line = b"add k 1 2 1\r\nx\r\n"
    change = play.ask(line)
    play.fail(change)
    assert (play.backup.sent, change.role, len(play.undecided)) == ([change], BACKUP, 0)
    play.answer(change, STORED)
    assert (play.backup.lines, play.client.heard, len(play.undecided)) == ([line], [STORED], 0)


def test_an_outcome_that_is_never_known_is_forgotten():
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    play.primary.request_abandoned(change)
    assert (play.client.heard, len(play.undecided), play.undecided.by_key) == ([INTERNAL_ERROR], 0, {})
    assert b"k" in play.primary.invalidations and b"k" in play.backup.invalidations


# -- several writes of a key


def test_of_several_undecided_changes_of_a_key_each_is_forgotten_by_itself():
    play = Play()
    first, second = play.ask(b"add k 1 2 1\r\nx\r\n"), play.ask(b"replace k 1 2 1\r\nx\r\n")
    assert [type(outcome) for outcome in play.undecided.by_key[b"k"]] == [ConditionalWrite, ConditionalWrite] and len(play.undecided) == 2
    play.answer(first, b"NOT_STORED\r\n")
    assert len(play.undecided) == 1 and play.undecided.by_key[b"k"] == [second.sink]
    play.answer(second, b"NOT_STORED\r\n")
    assert play.undecided.by_key == {}


# -- where other proxies may fill the primary


@pytest.fixture
def verified():
    """With several proxies, while the primary is warming."""
    play = Play(several_proxies=True)
    play.primary.ask_backup_on_miss = True
    return play


@pytest.mark.parametrize("reply", [b"6\r\n", b"NOT_FOUND\r\n"])
def test_a_write_that_depends_on_the_old_value_has_no_copy(verified, reply):
    """Another proxy could fill the primary with the copy before the primary makes the write. So the key is deleted on the backup."""
    request = verified.ask(INCR)
    assert verified.primary.sent == [request] and verified.backup.sent == [] and verified.in_flight() == [b"k"]
    verified.answer(request, reply)
    assert verified.client.heard == [reply] and verified.backup.lines == [DELETE] and verified.in_flight() == [b"k"]
    verified.answer(verified.backup.sent[0], b"DELETED\r\n")
    assert verified.in_flight() == []


@pytest.mark.parametrize("line", [SET, DELETE])
def test_one_that_replaces_it_has(verified, line):
    verified.ask(line)
    assert verified.backup.lines == [line]


def test_the_backup_makes_it_if_the_primary_fails(verified):
    request = verified.ask(INCR)
    verified.fail(request)
    assert verified.backup.sent == [request] and request.role == BACKUP
    verified.answer(request, b"6\r\n")
    assert verified.client.heard == [b"6\r\n"] and verified.in_flight() == [] and b"k" in verified.primary.invalidations


def test_unless_another_worker_has_changed_the_key_meanwhile(verified):
    request = verified.ask(INCR)
    verified.other.end_note(verified.other.begin_change(b"k", 1, PRIMARY_WORD))
    verified.fail(request)
    assert verified.client.heard == [("timeout", "127.0.0.1:1")] and verified.backup.lines == [DELETE]
    verified.answer(verified.backup.sent[0], b"DELETED\r\n")
    assert verified.in_flight() == []


def test_nothing_is_known_of_it_after_an_internal_error(verified):
    verified.primary.request_abandoned(verified.ask(INCR))
    assert verified.client.heard == [INTERNAL_ERROR] and verified.in_flight() == []
    assert b"k" in verified.primary.invalidations and b"k" in verified.backup.invalidations


# -- memory


def test_nothing_is_left_that_only_the_collector_could_free():
    """Requests have no weak references, but the object that has the last reference to one does."""
    for sync, first, second in itertools.product((False, True), EVENTS, EVENTS):
        if first.split()[0] == second.split()[0]:
            continue
        play = Play(sync)
        gc.disable()
        try:
            change = play.ask(INCR)
            play.primary.sent.clear()
            copy = play.backup.sent.pop()
            EVENTS[first](play, change, copy)
            EVENTS[second](play, change, copy)
            client = weakref.ref(play.client)
            play.client = None
            del change, copy
            assert client() is None, (sync, first, second)
        finally:
            gc.enable()

"""What a backup hears of changes, and who answers: with a primary and a backup that only take notes, in every order of events."""

import gc
import itertools
import weakref
from types import SimpleNamespace

import pytest

from gmproxy.placement.locators import SingleServer
from gmproxy.protocol import request as message
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.request import COPY, Request
from gmproxy.routing import replicate as copies

PRIMARY = SimpleNamespace(label="primary")


class Backup:
    """Keeps what it is sent."""

    label = "backup"

    def __init__(self):
        self.sent = []

    def submit(self, request):
        self.sent.append(request)

    @property
    def lines(self):
        return [request.line for request in self.sent]


class Router:
    """Gives up."""

    def give_up(self, request, backend, reason):
        request.reply = b"SERVER_ERROR %b\r\n" % reason.encode()
        return request.sink.on_reply(request)


class Client(message.ReplySink):
    """Who asked; hears of each answer."""

    def __init__(self):
        self.heard = []

    def on_reply(self, request):
        self.heard.append(request.reply)
        return "ready"


class Play:
    """`sync` or not: a client, its backup, and the copies between."""

    def __init__(self, sync=False):
        self.backup = Backup()
        self.client = Client()
        self.copies = copies.Copies(Router())
        self.copies.serve([self.backup], SingleServer(0), sync)

    def ask(self, line, key=b"k"):
        request = Request(COMMANDS[line.split()[0]], key, line)
        request.sink = self.client
        self.copies.mirror_write(request, PRIMARY)
        return request

    def answer(self, request, reply):
        """As a Backend does."""
        request.reply = reply
        if request.mirror is not None:
            return self.copies.on_reply(request)
        return request.sink.on_reply(request) if request.sink is not None else None

    def fail(self, request, reason="timeout"):
        """As Router.failed does of a request with a twin, or of a copy."""
        request.error = reason
        if request.role == COPY:
            return self.copies.copy_failed(request, self.backup)
        return self.copies.primary_failed(request, PRIMARY)


SET = b"set k 1 2 1\r\nx\r\n"
INCR = b"incr k 1\r\n"
STORED = b"STORED\r\n"


# -- one change, in every order of events


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
    order = [primary, backup] if primary_first else [backup, primary]
    heard = []
    for event in order:
        before = len(play.client.heard)
        ready = EVENTS[event](play, change, copy)
        assert (ready == "ready") == (len(play.client.heard) > before)
        heard.append(len(play.client.heard))
    expected = b"SERVER_ERROR timeout\r\n" if (primary, backup) == ("primary fails", "backup fails") else b"6\r\n"
    assert play.client.heard == [expected]
    at_once = primary_first and primary == "primary answers" and not sync
    assert heard == ([1, 1] if at_once else [0, 1])
    assert play.backup.sent == [copy]  # nothing more was to be said
    assert copy.mirror is None and (change.mirror is None or change.mirror.mirror is None), "no circle is left"


def test_a_backup_that_answers_otherwise():
    for first, second in ((0, 1), (1, 0)):
        play = Play()
        change = play.ask(INCR)
        pair = [(change, b"6\r\n"), (play.backup.sent[0], b"7\r\n")]
        play.answer(*pair[first])
        play.answer(*pair[second])
        assert play.backup.lines == [INCR, b"delete k\r\n"]
        assert (play.copies.differed, play.client.heard) == (1, [b"6\r\n"])


# -- changes by outcome


@pytest.mark.parametrize("line", [b"add k 1 2 1\r\nx\r\n", b"replace k 1 2 1\r\nx\r\n", b"cas k 1 2 1 77\r\nx\r\n"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_what_was_stored_is_copied(line, sync):
    play = Play(sync)
    change = play.ask(line)
    assert play.backup.sent == [] and play.copies.undecided() == 1
    play.answer(change, STORED)
    assert play.backup.lines == [SET] and play.copies.undecided() == 0
    assert play.client.heard == ([] if sync else [STORED])
    play.answer(play.backup.sent[0], STORED)
    assert play.client.heard == [STORED]
    assert change.mirror is None


@pytest.mark.parametrize("reply", [b"NOT_STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n", b"SERVER_ERROR out of memory storing object\r\n"])
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_what_was_not_stored_is_not_copied(reply, sync):
    play = Play(sync)
    play.answer(play.ask(b"cas k 1 2 1 77\r\nx\r\n"), reply)
    assert (play.backup.sent, play.client.heard, play.copies.undecided()) == ([], [reply], 0)


@pytest.mark.parametrize("other", [SET, INCR, b"delete k\r\n", b"gat 9 k\r\n", "several", "flush"])
def test_what_another_change_overtook_is_deleted(other):
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    if other == "flush":
        play.copies.overtake_all()
    elif other == "several":
        play.copies.send_touch(Request(COMMANDS[b"gat"], b"j", b"gat 9 j k\r\n"), b"k", PRIMARY)
    else:
        play.ask(other)
    play.answer(change, STORED)
    assert play.backup.lines[-1] == b"delete k\r\n"
    assert play.client.heard == [STORED] and play.copies.undecided() == 0


def test_changes_of_other_keys_overtake_nothing():
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    play.ask(b"set l 0 0 1\r\nx\r\n", key=b"l")
    play.answer(change, STORED)
    assert play.backup.lines[-1] == SET


def test_what_the_backup_answered_itself_is_not_copied_to_it():
    play = Play()
    change = play.ask(b"add k 1 2 1\r\nx\r\n")
    change.role = message.BACKUP
    play.answer(change, STORED)
    assert (play.backup.sent, play.client.heard, play.copies.undecided()) == ([], [STORED], 0)


# -- a server that is its own backup


@pytest.mark.parametrize("line", [SET, INCR, b"add k 1 2 1\r\nx\r\n", b"gat 9 k\r\n"])
def test_a_server_hears_nothing_twice(line):
    play = Play()
    play.backup.label = PRIMARY.label
    change = play.ask(line)
    assert play.backup.sent == []
    play.answer(change, STORED)
    assert play.client.heard == [STORED]


# -- memory


def test_nothing_is_left_that_only_the_collector_could_free():
    """Requests cannot be referred to weakly, but what holds the last reference to one can."""
    for sync, first, second in itertools.product((False, True), EVENTS, EVENTS):
        if first.split()[0] == second.split()[0]:
            continue
        gc.disable()
        try:
            play = Play(sync)
            change = play.ask(INCR)
            copy = play.backup.sent.pop()
            EVENTS[first](play, change, copy)
            EVENTS[second](play, change, copy)
            client = weakref.ref(play.client)
            del play, change, copy
            assert client() is None, (sync, first, second)
        finally:
            gc.enable()

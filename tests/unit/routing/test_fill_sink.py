"""What follows a fill: its end is reported once and, with several proxies, it is verified."""

import pytest
from support.replication import sources_of
from support.requests import request_for
from support.routes import Client, KeepingServer

from gmproxy.protocol.fetched_item import Item
from gmproxy.protocol.request import INTERNAL_ERROR
from gmproxy.routing.fetch import FetchForRead
from gmproxy.routing.fill_rules import FillRules
from gmproxy.routing.fill_sink import FillSink, VerifiedFill

ITEM = Item(7, 60, b"5\r\n")
FILL = b"ms k 1 ME F7 T60 c\r\n5\r\n"
LOOKUP, AGAIN = b"mg k f t v\r\n", b"mg k f v\r\n"


class Play:
    """A client whose get is a miss of the primary, with several proxies."""

    def __init__(self, key=b"k", probed=True):
        self.primary, self.backup = KeepingServer(1), KeepingServer(2, set_index=1)
        self.primary.options.proxies = "several"
        self.ended = []
        self.primary.connections[0] = self.backup.connections[0] = object()
        source = sources_of(self.backup)
        self.rules = FillRules(self.primary.options)
        if probed:
            self.rules.note_reply(self.primary, b"EN\r\n")
        self.client = Client()
        request = request_for(b"get k\r\n")
        request.key, request.sink, request.reply = key, self.client, b"END\r\n"
        FetchForRead(request, self.primary, source, self.primary, self.rules).start()

    def answer(self, server, reply):
        """Reply to the last request of `server`."""
        server.answer(server.sent[-1], reply)

    def added(self, reply=b"HD c9\r\n"):
        self.answer(self.backup, b"VA 1 f7 t60\r\n5\r\n")
        self.answer(self.primary, reply)

    def is_owed(self):
        """True if the key will be deleted on the primary before it is read."""
        return self.primary.may_be_stale(b"k")


@pytest.fixture
def play():
    return Play()


def test_what_the_backup_still_has_stays(play):
    play.added()
    assert (play.primary.lines, play.backup.lines) == ([FILL], [LOOKUP, AGAIN])
    assert play.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"], "the client does not wait for it"
    play.answer(play.backup, b"VA 1 f7\r\n5\r\n")
    assert (play.primary.lines, len(play.backup.lines), play.is_owed()) == ([FILL], 2, False)


@pytest.mark.parametrize("found", [b"EN\r\n", b"VA 1 f7\r\n6\r\n", b"VA 1 f8\r\n5\r\n", b"VA 2 f7\r\n55\r\n"])
@pytest.mark.parametrize("reply, is_owed", [(b"HD\r\n", False), (b"NF\r\n", False), (b"EX\r\n", True), (b"SERVER_ERROR x\r\n", True)])
def test_what_the_backup_no_longer_has_is_deleted_by_its_number(play, found, reply, is_owed):
    play.added()
    play.answer(play.backup, found)
    assert play.primary.lines == [FILL, b"md k C9\r\n"]
    play.answer(play.primary, reply)
    assert play.is_owed() == is_owed and len(play.primary.lines) == len(play.backup.lines) == 2
    assert play.primary.counters.fills_undone == (reply == b"HD\r\n")


def test_a_key_in_base64():
    play = Play(b"a b")
    play.added()
    play.answer(play.backup, b"EN\r\n")
    assert play.primary.lines == [b"ms YSBi 1 b ME F7 T60 c\r\n5\r\n", b"md YSBi b C9\r\n"]
    assert play.backup.lines == [b"mg YSBi b f t v\r\n", b"mg YSBi b f v\r\n"]


@pytest.mark.parametrize("reply", [b"NS\r\n", b"SERVER_ERROR out of memory storing object\r\n"])
def test_what_was_not_added_is_not_verified(play, reply):
    play.added(reply)
    assert (play.primary.lines, play.backup.lines, play.is_owed()) == ([FILL], [LOOKUP], False)


@pytest.mark.parametrize("which", ["add", "second reading", "deletion"])
def test_what_cannot_be_verified_is_not_read(play, which):
    play.answer(play.backup, b"VA 1 f7 t60\r\n5\r\n")
    if which == "add":
        play.primary.fail(play.primary.sent[-1])
    else:
        play.answer(play.primary, b"HD c9\r\n")
        if which == "second reading":
            play.backup.fail(play.backup.sent[-1])
        else:
            play.answer(play.backup, b"EN\r\n")
            play.primary.fail(play.primary.sent[-1])
    assert play.is_owed()


def test_an_error_line_is_no_second_reading(play):
    play.added()
    play.answer(play.backup, b"SERVER_ERROR busy\r\n")
    assert play.is_owed() and play.primary.lines == [FILL]


@pytest.mark.parametrize("which", ["add", "second reading"])
def test_a_fault_in_the_verification(play, which, internal_errors_counted):
    internal_errors_counted.may_occur = True
    play.answer(play.backup, b"VA 1 f7 t60\r\n5\r\n")
    if which == "add":
        play.primary.request_abandoned(play.primary.sent[-1])
    else:
        play.answer(play.primary, b"HD c9\r\n")
        play.answer(play.backup, b"VA")  # a reply that the parser lets through to nobody
    assert play.is_owed() and INTERNAL_ERROR not in play.client.heard


def test_a_fill_that_the_routes_no_longer_send_is_nothing_to_delete(play):
    sink = VerifiedFill(play.primary, b"k", play.backup, ITEM, play.rules, 0)
    request = request_for(b"ms k 1\r\n5\r\n")
    request.sink = sink
    request.fail("ejected", "x")
    assert not play.is_owed()


# -- servers before memcached 1.6


def test_a_primary_is_probed_before_it_is_sent_a_value():
    """Without meta commands it would parse the value of an ms as commands."""
    play = Play(probed=False)
    assert (play.primary.lines, play.backup.lines) == ([b"me k\r\n"], [])
    play.answer(play.primary, b"EN\r\n")
    assert play.backup.lines == [LOOKUP]
    play.added()
    assert play.primary.lines == [b"me k\r\n", FILL]


@pytest.mark.parametrize("reply", [b"ERROR\r\n", None])
def test_a_primary_without_meta_commands_is_not_filled(reply):
    play = Play(probed=False)
    if reply is None:
        play.primary.fail(play.primary.sent[-1])
    else:
        play.answer(play.primary, reply)
    play.answer(play.backup, b"VA 1 f7 t60\r\n5\r\n")
    assert play.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"] and play.primary.lines == [b"me k\r\n"]
    assert play.rules.exclude(play.primary, [play.backup]) == (reply is not None)


def test_from_a_backup_without_meta_commands_nothing_is_filled(play):
    play.answer(play.backup, b"ERROR\r\n")
    assert play.backup.lines[-1] == b"get k\r\n"
    play.answer(play.backup, b"VALUE k 7 1\r\n5\r\nEND\r\n")
    assert play.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"] and play.primary.lines == []
    assert play.rules.exclude(play.primary, [play.backup]) and play.primary.fetches == {}


# -- the end of a fill


class Primary:
    """Counts the ends of fills. `raises`: at the first one."""

    def __init__(self, raises):
        self.ended = 0
        self.raises = raises

    def fill_written(self, key):
        self.ended += 1
        if self.raises:
            raise ZeroDivisionError("a fault of the test")


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("outcome", ["reply", "failure", "abandoned"])
def test_the_end_of_a_fill_is_reported_once(outcome, raises, internal_errors_counted):
    internal_errors_counted.may_occur = True
    primary = Primary(raises)
    request = request_for(b"add k 0 0 1\r\n5\r\n")
    request.sink = sink = FillSink(primary, b"k")
    request.reply = b"STORED\r\n"
    {"reply": request.complete, "failure": lambda: request.fail("timeout", "x"), "abandoned": request.abandon}[outcome]()
    sink.end_fill()
    assert primary.ended == 1

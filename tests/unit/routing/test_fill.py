"""Which items are copied from the backup to the primary, and what the client receives: with servers that only record requests."""

import pytest
from support.replication import sources_of
from support.requests import request_for
from support.routes import Client, KeepingServer

from gmproxy.protocol import cas_numbers, internal_commands
from gmproxy.protocol.request import BACKUP, INTERNAL_ERROR
from gmproxy.routing.failover import BackupAsPrimary
from gmproxy.routing.fill import FetchForWrite, Fill, FillBeforeWrite, FillWrites, MissCheck
from gmproxy.routing.fill_rules import FillRules

A = b"VALUE a 0 1\r\n1\r\n"

# -- what is fetched, and which part keeps it


class Primary(KeepingServer):
    """A server that also records its misses, and the keys whose fills have ended."""

    def __init__(self):
        super().__init__(1)
        self.options.refill_ttl = 33
        self.ask_backup_on_miss = True
        self.told = []  # (asked, found)
        self.ended = []

    def fill_written(self, key):
        self.ended.append(key)

    def record_misses(self, asked, found):
        self.told.append((asked, found))


class Play:
    """A warming primary and its backup.

    filled     lines that fill the primary
    questions  requests that the backup received
    released   writes whose key was filled
    """

    def __init__(self):
        self.primary = Primary()
        self.backup = KeepingServer(2, set_index=1)
        self.client = Client()
        self.released = []
        self.held = set()
        source = sources_of(self.backup)
        self.fill = Fill(self.primary, source, FillWrites(self.primary, None), FillRules(self.primary.options))
        self.change = FillBeforeWrite(self.primary, self.fill, self.held, self.released.append)

    @property
    def filled(self):
        return [line for line in self.primary.lines if line.startswith(b"add ")]

    @property
    def questions(self):
        return self.backup.sent

    def wait(self, line=b"incr k 1\r\n"):
        """A write whose key must be fetched before it is sent. Returns it."""
        request = request_for(line)
        request.sink = self.client
        self.change.send(request)
        return request

    def ask(self, line, reply, *keys):
        """A read, of `keys` if there are several, to which the primary replies `reply`. Returns it."""
        request = request_for(line, list(keys) or None)
        request.sink = Client()
        self.client = request.sink
        self.fill.send(request)
        self.primary.answer(request, reply, reply.count(b"VALUE ") + reply.startswith((b"HD", b"VA")))
        return request

    def answer(self, number, reply):
        return self.backup.answer(self.questions[number], reply)

    def fail(self, number):
        return self.backup.fail(self.questions[number])


FIVE = b"VA 1 f7 t60\r\n5\r\n"
OF_BACKUP = cas_numbers.marked(5, cas_numbers.BACKUP_SET)
ADD_FIVE = b"add k 7 60 1\r\n5\r\n"


@pytest.fixture
def play():
    return Play()


def test_nothing_is_missing_after_all(play):
    """A key that is requested twice may be found once and then not: `gat -1 a a`. One value is enough."""
    play.ask(b"gat -1 a a\r\n", A + b"END\r\n", b"a", b"a")
    assert (play.client.heard, play.questions) == ([A + b"END\r\n"], [])


@pytest.mark.parametrize("reply, filled", [(FIVE, [ADD_FIVE]), (b"EN\r\n", []), (None, [])])
def test_a_change_is_sent_once_its_key_was_filled(play, reply, filled):
    change = play.wait()
    assert [(question.line, question.role) for question in play.questions] == [(b"mg k f t v\r\n", BACKUP)]
    assert isinstance(play.questions[0].sink.sink, FetchForWrite)
    assert play.released == [] and list(play.primary.fetches) == [b"k"] and play.held == {change}
    if reply is None:
        play.fail(0)
    else:
        play.answer(0, reply)
    assert (play.filled, play.released, play.primary.fetches, play.held) == (filled, [change], {}, set())
    assert play.client.heard == []  # the client gets the reply from the route that has the write now


def test_a_backup_that_knows_no_meta_commands_is_asked_again(play):
    change = play.wait()
    play.answer(0, b"ERROR\r\n")
    assert play.questions[1].line == b"get k\r\n" and play.released == []
    play.answer(1, b"VALUE k 7 1\r\n5\r\nEND\r\n")
    assert (play.filled, play.released, play.primary.fetches) == ([b"add k 7 33 1\r\n5\r\n"], [change], {})


def test_what_changed_meanwhile_is_not_filled(play):
    change = play.wait()
    play.primary.void_fills_of_write(request_for(b"delete k\r\n"))
    assert play.primary.fetches == {}
    play.answer(0, FIVE)
    assert (play.filled, play.released) == ([], [change])


def test_what_got_another_life_meanwhile_is_filled(play):
    """A read that changes the lifetime changes no value."""
    play.wait()
    play.primary.void_fills_of_write(request_for(b"gat 9 k\r\n"))
    play.answer(0, FIVE)
    assert play.filled == [ADD_FIVE]


def test_what_changed_meanwhile_is_not_filled_by_who_asked_before(play):
    """The second fetch may fill, the first may not."""
    play.wait()
    play.primary.void_fill_of_key(b"k")
    play.wait()
    play.answer(0, FIVE)
    assert play.filled == []
    play.answer(1, b"VA 1 f7 t60\r\n6\r\n")
    assert play.filled == [b"add k 7 60 1\r\n6\r\n"] and play.primary.fetches == {}


def test_of_several_who_ask_at_a_time_the_first_fills_for_all(play):
    """They are filled before any of the writes is sent: each finds the value that it would have found."""
    first, second = play.wait(), play.wait(b"add k 0 0 1\r\nx\r\n")
    play.ask(b"get k\r\n", b"END\r\n")
    play.answer(0, FIVE)
    assert (play.filled, play.released) == ([ADD_FIVE], [first])
    play.answer(1, FIVE)
    play.answer(2, FIVE)
    assert (play.filled, play.released, play.primary.fetches) == ([ADD_FIVE], [first, second], {})
    assert play.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"]


@pytest.mark.parametrize("fails, told", [(False, [(2, 1)]), (True, [])])
def test_a_backup_that_fails_says_nothing_about_how_warm_the_primary_is(play, fails, told):
    play.ask(b"get k l\r\n", b"END\r\n", b"k", b"l")
    play.answer(0, FIVE)
    if fails:
        play.fail(1)
    else:
        play.answer(1, b"EN\r\n")
    assert play.primary.told == told
    assert play.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"]


def test_what_the_primary_had_is_not_asked_for(play):
    play.ask(b"gets k a l\r\n", b"VALUE a 0 1 9\r\n1\r\nEND\r\n", b"k", b"a", b"l")
    assert [question.key for question in play.questions] == [b"k", b"l"]
    play.answer(1, b"EN\r\n")
    play.answer(0, b"VA 1 f7 t60 c5\r\n5\r\n")
    values = b"VALUE k 7 1 %d\r\n5\r\nVALUE a 0 1 9\r\n1\r\nEND\r\n" % OF_BACKUP
    assert (play.client.heard, play.primary.told) == ([values], [(2, 1)])


def test_an_old_backup_returns_its_number_to_a_gets(play):
    play.ask(b"gets k\r\n", b"END\r\n")
    assert play.questions[0].line == b"mg k f t c v\r\n"
    play.answer(0, b"ERROR\r\n")
    assert play.questions[1].line == b"gets k\r\n"
    play.answer(1, b"VALUE k 7 1 5\r\n5\r\nEND\r\n")
    assert play.client.heard == [b"VALUE k 7 1 %d\r\n5\r\nEND\r\n" % OF_BACKUP]


# -- cas numbers of the backup


@pytest.mark.parametrize(
    "line, refused",
    [
        (b"cas k 0 0 1 %d\r\nx\r\n" % OF_BACKUP, b"EXISTS\r\n"),
        (b"ms k 1 C%d k O1\r\nx\r\n" % OF_BACKUP, b"EX kk O1\r\n"),
        (b"md k C%d\r\n" % OF_BACKUP, b"EX\r\n"),
        (b"ma k C%d\r\n" % OF_BACKUP, b"EX\r\n"),
    ],
)
@pytest.mark.parametrize("cold", [True, False])
def test_a_number_of_the_backup_is_not_sent_to_the_primary(play, line, refused, cold):
    play.primary.ask_backup_on_miss = cold
    play.wait(line)
    assert (play.client.heard, play.primary.sent, play.questions, play.held) == ([refused], [], [], set())
    assert play.primary.counters.replies == 1


@pytest.mark.parametrize("trouble", ["ejected", "failing", "behind"])
def test_a_number_of_the_backup_is_sent_on_where_the_primary_is_not_used(play, trouble):
    if trouble == "ejected":
        play.primary.health.eject_by_hand(0.0)
    elif trouble == "failing":
        play.primary.health.failed(0.0)
    else:
        play.primary.missed_key(b"k")
    change = play.wait(b"cas k 0 0 1 %d\r\nx\r\n" % OF_BACKUP)
    assert (play.client.heard, play.primary.sent, play.questions) == ([], [change], [])


def test_a_number_of_the_primary_is_not_sent_to_the_backup():
    backup, client = KeepingServer(2, set_index=1), Client()
    route = BackupAsPrimary(backup, True)
    for line, reply in ((b"cas k 0 0 1 5\r\nx\r\n", b"EXISTS\r\n"), (b"md k C5 O7\r\n", b"EX O7\r\n")):
        request = request_for(line)
        request.sink = client
        assert route.send(request) is client
        assert client.heard.pop() == reply
    assert backup.sent == [] and not backup.may_be_stand_in_key(b"k")


def test_a_number_of_the_backup_is_sent_to_the_backup_without_its_mark():
    backup = KeepingServer(2, set_index=1)
    request = request_for(b"cas k 0 0 1 %d\r\nx\r\n" % OF_BACKUP)
    request.sink = Client()
    BackupAsPrimary(backup, False).send(request)
    assert backup.lines == [b"cas k 0 0 1 5\r\nx\r\n"]


# -- for mg, the client gets the reply in the form that it requested


def test_a_meta_get_is_asked_there_as_it_is(play):
    play.ask(b"mg k c v\r\n", b"EN\r\n")
    assert [question.line for question in play.questions] == [b"mg k c v\r\n"] and play.client.heard == []
    play.answer(0, b"VA 1 c5\r\n5\r\n")
    assert play.client.heard == [b"VA 1 c%d\r\n5\r\n" % OF_BACKUP] and play.primary.told == [(1, 1)]
    assert (play.questions[1].line, play.filled) == (b"mg k f t v\r\n", [])
    play.answer(1, FIVE)
    assert (play.filled, play.primary.fetches) == ([ADD_FIVE], {}) and len(play.client.heard) == 1


@pytest.mark.parametrize("reply, told", [(b"EN\r\n", [(1, 0)]), (None, [])])
def test_a_meta_get_that_the_backup_cannot_answer_either(play, reply, told):
    play.ask(b"mg k v\r\n", b"EN\r\n")
    if reply is None:
        play.fail(0)
    else:
        play.answer(0, reply)
    assert (play.client.heard, play.primary.told, play.primary.fetches, len(play.questions)) == ([b"EN\r\n"], told, {}, 1)


def test_what_fails_after_a_meta_get_was_answered_is_nobodys(play):
    play.ask(b"mg k v\r\n", b"EN\r\n")
    play.answer(0, b"VA 1\r\n5\r\n")
    play.fail(1)
    assert (play.client.heard, play.filled, play.primary.fetches) == ([b"VA 1\r\n5\r\n"], [], {})


# -- when the backup gets a request at all


@pytest.mark.parametrize(
    "line, reply",
    [
        (b"get k\r\n", b"VALUE k 0 1\r\n1\r\nEND\r\n"),
        (b"get k\r\n", b"SERVER_ERROR out of memory\r\n"),
        (b"mg k v\r\n", b"VA 1\r\n5\r\n"),
        (b"mg k v\r\n", b"CLIENT_ERROR bad\r\n"),
    ],
)
def test_an_answer_that_is_no_miss_goes_to_the_client(play, line, reply):
    request = play.ask(line, reply)
    assert (play.client.heard, play.questions, request.sink) == ([reply], [], None)


@pytest.mark.parametrize("line, reply", [(b"get k\r\n", b"END\r\n"), (b"mg k v\r\n", b"EN\r\n")])
def test_a_miss_of_a_warm_server_is_a_miss(play, line, reply):
    play.primary.ask_backup_on_miss = False
    play.ask(line, reply)
    assert (play.client.heard, play.questions) == ([reply], [])


def test_what_reads_nothing_is_sent_as_it_is(play):
    request = request_for(b"set k 0 0 1\r\nx\r\n")
    request.sink = play.client
    play.fill.send(request)
    assert (play.primary.sent, request.sink) == ([request], play.client)


def test_a_read_is_watched_from_the_start(play):
    """Whether its miss is final is decided when the miss arrives."""
    play.primary.ask_backup_on_miss = False
    request = request_for(b"get k\r\n")
    request.sink = play.client
    play.fill.send(request)
    assert isinstance(request.sink, MissCheck)
    play.primary.ask_backup_on_miss = True
    play.primary.answer(request, b"END\r\n")
    assert len(play.questions) == 1


@pytest.mark.parametrize("line, waits", [(b"incr k 1\r\n", True), (b"set k 0 0 1\r\nx\r\n", False), (b"delete k\r\n", False)])
@pytest.mark.parametrize("cold", [True, False])
def test_only_what_depends_on_the_value_waits_and_only_if_that_may_be_missing(play, line, waits, cold):
    play.primary.ask_backup_on_miss = cold
    change = play.wait(line)
    assert (play.held == {change}) == (waits and cold) == (play.primary.sent == [])


def test_fills_are_counted(play):
    play.wait()
    play.answer(0, FIVE)
    assert play.primary.counters.fills == 1


# -- the end of a fill: it was written, refused, or there is nothing to write


def fill_of(play):
    """The request that fills the primary."""
    (fill,) = [request for request in play.primary.sent if request.line == ADD_FIVE]
    return fill


@pytest.mark.parametrize("reply", [b"STORED\r\n", b"NOT_STORED\r\n", b"SERVER_ERROR out of memory storing object\r\n", None])
def test_a_fill_ends_when_its_add_is_answered_or_has_failed(play, reply):
    play.wait()
    play.answer(0, FIVE)
    fill = fill_of(play)
    assert play.primary.ended == []
    if reply is None:
        play.primary.fail(fill)
    else:
        play.primary.answer(fill, reply)
    assert play.primary.ended == [b"k"]


@pytest.mark.parametrize("reply", [b"EN\r\n", None])
def test_a_fill_ends_if_there_is_nothing_to_add(play, reply):
    play.wait()
    if reply is None:
        play.fail(0)
    else:
        play.answer(0, reply)
    assert play.primary.ended == [b"k"]


def test_a_fill_that_the_routes_no_longer_send_has_ended(play):
    play.wait()
    play.fill.fill_writes.replaced = True
    play.answer(0, FIVE)
    assert (play.filled, play.primary.ended) == ([], [b"k"])


def test_a_fill_that_was_voided_does_not_end_twice(play):
    play.wait()
    play.primary.void_fill_of_key(b"k")
    play.answer(0, FIVE)
    assert (play.filled, play.primary.ended) == ([], [])


def test_only_the_fetch_that_fills_ends_the_fill(play):
    play.wait()
    play.wait()
    play.answer(1, FIVE)
    assert play.primary.ended == []
    play.answer(0, b"EN\r\n")
    assert play.primary.ended == [b"k"]


# -- internal errors


def test_a_fill_that_raises_has_ended(play, monkeypatch, internal_errors_counted):
    internal_errors_counted.may_occur = True
    change = play.wait()
    monkeypatch.setattr(internal_commands, "add_if_absent", lambda *item: 1 / 0)
    play.answer(0, FIVE)
    assert (play.primary.ended, play.released, change.sink) == ([b"k"], [], None)


def test_a_fill_whose_add_raises_has_ended(play, monkeypatch, internal_errors_counted):
    internal_errors_counted.may_occur = True
    play.wait()
    monkeypatch.setattr(KeepingServer, "send", lambda server, request: 1 / 0)
    play.answer(0, FIVE)
    assert (play.primary.ended, play.client.heard) == ([b"k"], [INTERNAL_ERROR])


def test_a_change_that_was_abandoned_is_not_sent(play):
    change = play.wait()
    change.abandon()
    play.answer(0, FIVE)
    assert (play.released, play.held, play.client.heard) == ([], set(), [INTERNAL_ERROR])


@pytest.mark.parametrize("kind", ["change", "read"])
def test_a_question_that_is_abandoned_is_the_end(play, kind):
    if kind == "change":
        play.wait()
    else:
        play.ask(b"get k l\r\n", b"END\r\n", b"k", b"l")
    play.backup.request_abandoned(play.questions[0])
    assert (play.client.heard, play.primary.fetches, play.held, play.released) == ([INTERNAL_ERROR], {}, set(), [])

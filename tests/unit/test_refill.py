"""What a refill reads from replies, and what it asks and tells whom: with a backup and a primary that only take notes."""

from types import SimpleNamespace

import pytest

from gmproxy.protocol import commands
from gmproxy.protocol import request as message
from gmproxy.routing import fill as refill


def asked(name, keys, reply):
    """A request for `keys` that the primary answered with `reply`."""
    request = message.Request(commands.COMMANDS[name], keys[0], b"")
    request.keys = keys if len(keys) > 1 else None
    request.reply = reply
    return request


A = b"VALUE a 0 1\r\n1\r\n"


# -- what the backup says


@pytest.mark.parametrize(
    "reply, read",
    [
        (b"EN\r\n", None),
        (b"SERVER_ERROR x\r\n", None),
        (b"VA 5 f7 t60\r\nhello\r\n", (7, 60, b"hello\r\n")),
        (b"VA 0 f0 t-1\r\n\r\n", (0, 0, b"\r\n")),
        (b"VA 4 t0 f4294967295\r\n\r\n\r\n\r\n", (4294967295, 0, b"\r\n\r\n\r\n")),
        (b"VA 2 f1\r\nhi\r\n", (1, 99, b"hi\r\n")),
        (b"VA 2\r\nhi\r\n", (0, 99, b"hi\r\n")),
    ],
)
def test_read_meta_takes_the_life_it_is_given_where_none_is_told(reply, read):
    assert refill.parse_meta_get(reply, 99) == read


@pytest.mark.parametrize(
    "reply, read",
    [
        (b"END\r\n", None),
        (b"SERVER_ERROR x\r\n", None),
        (b"VALUE a 7 5\r\nhello\r\nEND\r\n", (7, 99, b"hello\r\n")),
        (b"VALUE a 0 0\r\n\r\nEND\r\n", (0, 99, b"\r\n")),
        (b"VALUE a 0 5\r\nEND\r\n\r\nEND\r\n", (0, 99, b"END\r\n\r\n")),
    ],
)
def test_read_plain_takes_the_life_it_is_given(reply, read):
    assert refill.parse_get(reply, 99) == read


# -- whom it tells


class Owner(message.ReplySink):
    """Who asked; hears of the answer."""

    def __init__(self):
        self.heard = []

    def on_reply(self, request):
        self.heard.append(request.reply)


def test_nothing_is_missing_after_all():
    """A key that is asked twice may be found once and then no more: `gat -1 a a`. One answer to it is enough."""
    request = asked(b"gat", [b"a", b"a"], A + b"END\r\n")
    owner = request.sink = Owner()
    refill.Refill(request, None, None).ask()
    assert owner.heard == [A + b"END\r\n"]


# -- what is fetched, and by whom it is kept


class Primary:
    """Takes notes."""

    options = SimpleNamespace(refill_ttl=33, backend_protocol="text")

    def __init__(self):
        self.fetches = {}
        self.told = []  # (asked, found)

    def lacked(self, asked, found):
        self.told.append((asked, found))


class Router:
    """A router whose backup keeps the questions, and which keeps what it fills."""

    def __init__(self):
        self.questions = []
        self.filled = []
        self.sent = []

    def backup_of(self, key):
        return self

    def submit(self, question):
        self.questions.append(question)

    def fill(self, request, primary):
        self.filled.append(request.line)

    def ready(self, request):
        self.sent.append(request)


class Play:
    def __init__(self):
        self.primary = Primary()
        self.router = Router()

    def fetch(self, line=b"incr k 1\r\n"):
        """A change that needs to have `k` fetched first. Returns it."""
        request = message.Request(commands.COMMANDS[line.split()[0]], b"k", line)
        refill.Fetch(request, self.primary, self.router).ask()
        return request

    def read(self, *keys):
        """A read that found none of `keys`. Returns it."""
        request = asked(b"get", list(keys), b"END\r\n")
        request.sink = Owner()
        refill.Refill(request, self.primary, self.router).ask()
        return request

    def answer(self, number, reply, error=None):
        question = self.router.questions[number]
        question.reply = reply
        question.error = error
        question.sink.on_reply(question)


FIVE = b"VA 1 f7 t60\r\n5\r\n"
ADD_FIVE = b"add k 7 60 1\r\n5\r\n"


@pytest.fixture
def play():
    return Play()


@pytest.mark.parametrize("reply, filled", [(FIVE, [ADD_FIVE]), (b"EN\r\n", []), (b"SERVER_ERROR timeout b:1\r\n", [])])
def test_a_change_is_sent_once_its_key_was_filled(play, reply, filled):
    change = play.fetch()
    assert [question.line for question in play.router.questions] == [b"mg k f t v\r\n"]
    assert play.router.sent == [] and list(play.primary.fetches) == [b"k"]
    play.answer(0, reply)
    assert (play.router.filled, play.router.sent, play.primary.fetches) == (filled, [change], {})


def test_a_backup_that_knows_no_meta_commands_is_asked_again(play):
    change = play.fetch()
    play.answer(0, b"ERROR\r\n")
    assert play.router.questions[1].line == b"get k\r\n" and play.router.sent == []
    play.answer(1, b"VALUE k 7 1\r\n5\r\nEND\r\n")
    assert (play.router.filled, play.router.sent, play.primary.fetches) == ([b"add k 7 33 1\r\n5\r\n"], [change], {})


def test_what_changed_meanwhile_is_not_filled(play):
    change = play.fetch()
    play.primary.fetches.pop(b"k")  # as a change does
    play.answer(0, FIVE)
    assert (play.router.filled, play.router.sent) == ([], [change])


def test_what_changed_meanwhile_is_not_filled_by_who_asked_before(play):
    """The second fetch may, the first may not."""
    play.fetch()
    play.primary.fetches.pop(b"k")
    play.fetch()
    play.answer(0, FIVE)
    assert play.router.filled == []
    play.answer(1, b"VA 1 f7 t60\r\n6\r\n")
    assert play.router.filled == [b"add k 7 60 1\r\n6\r\n"] and play.primary.fetches == {}


def test_of_several_who_ask_at_a_time_the_first_fills_for_all(play):
    """And before any of them is sent: each finds what it would have found."""
    first, second = play.fetch(), play.fetch(b"add k 0 0 1\r\nx\r\n")
    read = play.read(b"k")
    owner = read.sink
    play.answer(0, FIVE)
    assert (play.router.filled, play.router.sent) == ([ADD_FIVE], [first])
    play.answer(1, FIVE)
    play.answer(2, FIVE)
    assert (play.router.filled, play.router.sent, play.primary.fetches) == ([ADD_FIVE], [first, second], {})
    assert owner.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"]


@pytest.mark.parametrize("failure, told", [(None, [(2, 1)]), ("timeout", [])])
def test_a_backup_that_fails_says_nothing_about_how_warm_the_primary_is(play, failure, told):
    play.read(b"k", b"l")
    play.answer(0, FIVE)
    play.answer(1, b"EN\r\n", failure)
    assert play.primary.told == told

"""What is recorded of a key that is written on a stand-in server, and the lifetime that it gets there."""

import time
from types import SimpleNamespace

import pytest
from support.requests import request_for

from gmproxy.protocol import request as message
from gmproxy.protocol.commands import COMMANDS
from gmproxy.protocol.limits import LONGEST_RELATIVE_LIFE
from gmproxy.protocol.replica_commands import EXPTIME_AT, limit_life
from gmproxy.routing.stand_in import HomeRing, LateWrite, StandInReads, StandInWrites, watch_late_writes

LONGEST = 30


class Server:
    """Records the calls."""

    def __init__(self, *under_way):
        self.missed = []
        self.stand_in_keys = []
        self.connections = [None, SimpleNamespace(waiting=list(under_way))]

    def missed_key(self, key):
        self.missed.append(key)

    def missed_write(self, request):
        self.missed += request.keys or [request.key]

    def add_stand_in_key(self, key):
        self.stand_in_keys.append(key)


class Owner(message.ReplySink):
    def __init__(self):
        self.heard = []

    def on_reply(self, request):
        self.heard.append(request)
        return "ready"

    def on_failure(self, request):
        self.heard.append(request)
        return "failure"

    def on_internal_error(self, request):
        self.heard.append(request)
        return "internal error"


# -- limit_life


def shortened_to(line, longest=LONGEST):
    return limit_life(COMMANDS[line.split()[0]], line, longest)


@pytest.mark.parametrize(
    "line, shortened",
    [
        (b"set k 0 0 1\r\nx\r\n", b"set k 0 30 1\r\nx\r\n"),
        (b"set k 0 31 1\r\nx\r\n", b"set k 0 30 1\r\nx\r\n"),
        (b"set k 0 30 1\r\nx\r\n", b"set k 0 30 1\r\nx\r\n"),
        (b"set k 0 1 1\r\nx\r\n", b"set k 0 1 1\r\nx\r\n"),
        (b"set k 0 -1 1\r\nx\r\n", b"set k 0 -1 1\r\nx\r\n"),
        (b"cas k 5 0 9 7\r\nset a 0 0\r\n", b"cas k 5 30 9 7\r\nset a 0 0\r\n"),
        (b"set k 0 0 4\r\n\r\n\r\n\r\n", b"set k 0 30 4\r\n\r\n\r\n\r\n"),
        (b"touch k 0\r\n", b"touch k 30\r\n"),
        (b"gat 100 k\r\n", b"gat 30 k\r\n"),
        (b"append k 0 0 1\r\nx\r\n", b"append k 0 0 1\r\nx\r\n"),
        (b"incr k 100\r\n", b"incr k 100\r\n"),
        (b"ms k 1 T0 F5\r\nT99\r\n", b"ms k 1 T30 F5\r\nT99\r\n"),
        (b"ms k 1 F5\r\nx\r\n", b"ms k 1 F5 T30\r\nx\r\n"),
        (b"ms T0 1 T-1\r\nx\r\n", b"ms T0 1 T-1\r\nx\r\n"),
        (b"mg k v T100\r\n", b"mg k v T30\r\n"),
        (b"ma k N0 J5 v\r\n", b"ma k N30 J5 v\r\n"),
        (b"md k\r\n", b"md k\r\n"),
        (b"touch k abc\r\n", b"touch k abc\r\n"),
        (b"touch k\r\n", b"touch k\r\n"),
        (b"touch k 99\x0bx\r\n", b"touch k 30\r\n"),
        (b"touch k %b\r\n" % (b"9" * 5000), b"touch k %b\r\n" % (b"9" * 5000)),
        (b"gat x k\r\n", b"gat x k\r\n"),
        (b"mg k T T99 Nx\r\n", b"mg k T T30 Nx\r\n"),
        (b"mg k T10\x0bx N99\tx\r\n", b"mg k T10\x0bx N30\r\n"),
        (b"set\r\n", b"set\r\n"),
    ],
)
def test_limit_life(line, shortened):
    assert shortened_to(line) == shortened


@pytest.mark.parametrize("seconds, kept", [(-10, True), (10, True), (1000, False)])
def test_shorten_the_life_to_a_time_of_day(seconds, kept):
    until = int(time.time()) + seconds
    assert until > LONGEST_RELATIVE_LIFE
    assert shortened_to(b"touch k %d\r\n" % until) == (b"touch k %d\r\n" % until if kept else b"touch k 30\r\n")


def test_the_longest_life_that_is_no_time_of_day():
    assert shortened_to(b"touch k %d\r\n" % LONGEST_RELATIVE_LIFE, LONGEST_RELATIVE_LIFE) == b"touch k %d\r\n" % LONGEST_RELATIVE_LIFE


# -- HomeRing and StandInWrites


class Main(message.Route):
    """Receives the writes. Keeps (their line, what `home` had missed by then)."""

    def __init__(self, home):
        self.home = home
        self.sent = []

    def send(self, request):
        self.sent.append((request.line, list(self.home.missed)))
        return "session"


@pytest.fixture
def home():
    return Server()


@pytest.fixture
def other():
    return Server()


def home_ring(home, other, longest=LONGEST):
    return HomeRing([home, other], SimpleNamespace(locate=lambda key: 0), longest)


class Lagging(Server):
    """Another worker may have stand-in keys to delete there."""

    def may_lag(self):
        return True

    label = "a:1"


@pytest.mark.parametrize("kind, line", [(StandInReads, b"get k\r\n"), (StandInWrites, b"incr k 1\r\n")])
@pytest.mark.parametrize("lags", [True, False])
def test_a_stale_value_of_an_earlier_time_is_not_read(home, kind, line, lags):
    """Neither by a read nor by a write that depends on it, unless the server is the key's own."""
    stand_in = Lagging() if lags else Server()
    stand_in.may_lag = lambda: lags
    for server in (stand_in, home):
        home.may_lag = lambda: lags
        route, owner = Main(home), Owner()
        request = request_for(line)
        request.sink = owner
        ring = home_ring(home, stand_in)
        result = kind(server, route, ring).send(request)
        refused = lags and server is stand_in
        assert (result, len(route.sent), request.error) == (("failure", 0, "ejected") if refused else ("session", 1, None))


def test_a_write_that_replaces_it_is_sent(home):
    route = Main(home)
    request = request_for(b"set k 0 0 1\r\nx\r\n")
    assert StandInWrites(Lagging(), route, home_ring(home, Lagging())).send(request) == "session" and len(route.sent) == 1


def test_a_change_elsewhere(home, other):
    request = request_for(b"set k 0 0 1\r\nx\r\n")
    home_ring(home, other).note_write(request, b"k", other)
    assert (home.missed, home.stand_in_keys, other.missed, other.stand_in_keys) == ([b"k"], [], [], [b"k"])
    assert request.line == b"set k 0 30 1\r\nx\r\n"


def test_a_change_at_home(home, other):
    request = request_for(b"set k 0 0 1\r\nx\r\n")
    home_ring(home, other).note_write(request, b"k", home)
    assert (home.missed, home.stand_in_keys, other.missed, other.stand_in_keys) == ([], [], [], [])
    assert request.line == b"set k 0 0 1\r\nx\r\n"


def test_a_refill_elsewhere_changes_nothing_at_home(home, other):
    request = request_for(b"add k 0 0 1\r\nx\r\n")
    home_ring(home, other).note_fill(request, other)
    assert (home.missed, other.stand_in_keys) == ([], [b"k"])
    assert request.line == b"add k 0 30 1\r\nx\r\n"


def test_a_refill_at_home_is_no_guest(home, other):
    request = request_for(b"add k 0 0 1\r\nx\r\n")
    home_ring(home, other).note_fill(request, home)
    assert (home.missed, home.stand_in_keys, other.stand_in_keys, request.line) == ([], [], [], b"add k 0 0 1\r\nx\r\n")


@pytest.mark.parametrize("line", [b"set k 0 0 1\r\nx\r\n", b"touch k 0\r\n"])
def test_as_long_as_the_client_said(home, other, line):
    request = request_for(line)
    home_ring(home, other, longest=0).note_write(request, b"k", other)
    assert request.line == line


@pytest.mark.parametrize("line", [b"incr k 1\r\n", b"delete k\r\n", b"append k 0 0 1\r\nx\r\n"])
def test_a_change_that_gives_no_life(home, other, line):
    request = request_for(line)
    home_ring(home, other).note_write(request, b"k", other)
    assert request.line == line
    assert other.stand_in_keys == [b"k"]


def test_what_has_to_be_noted_is_noted_before_a_change_is_sent(home, other):
    main = Main(home)
    route = StandInWrites(other, main, home_ring(home, other))
    assert route.send(request_for(b"set k 0 0 1\r\nx\r\n")) == "session"
    assert main.sent == [(b"set k 0 30 1\r\nx\r\n", [b"k"])]
    assert (home.missed, other.stand_in_keys) == ([b"k"], [b"k"])


def test_a_change_of_several_keys(home, other):
    """Each key is recorded. The line, which has several, is unchanged."""
    main = Main(home)
    StandInWrites(other, main, home_ring(home, other)).send(request_for(b"gat 100 j k\r\n", [b"j", b"k"]))
    assert main.sent == [(b"gat 100 j k\r\n", [b"j", b"k"])]
    assert other.stand_in_keys == [b"j", b"k"]


def test_every_verb_that_gives_a_life_is_known():
    assert set(EXPTIME_AT) == {command.name for command in COMMANDS.values() if command.is_write and not command.is_meta} - {
        b"append",
        b"prepend",
        b"incr",
        b"decr",
        b"delete",
    }


# -- late writes


def test_a_change_under_way_to_a_server_that_lost_the_key_is_noted_when_it_is_answered():
    owner = Owner()
    change, stays, read, several = (
        request_for(b"set k 0 0 1\r\nx\r\n"),
        request_for(b"set mine 0 0 1\r\nx\r\n"),
        request_for(b"get k\r\n"),
        request_for(b"gat 9 mine\r\n", [b"mine", b"k"]),
    )
    for request in (change, stays, read, several):
        request.sink = owner
    server = Server(change, stays, read, several)
    watch_late_writes(server, lambda key: server if key == b"mine" else None)
    assert [type(request.sink) for request in (change, stays, read, several)] == [LateWrite, Owner, Owner, LateWrite]
    assert server.missed == []
    assert change.complete() == "ready"
    assert server.missed == [b"k"]
    several.complete()
    assert server.missed == [b"k", b"mine", b"k"]
    assert owner.heard == [change, several]
    assert change.complete() is several.complete() is None
    assert owner.heard == [change, several], "once each"


def test_nobody_waits_for_a_refill():
    refill = request_for(b"add k 0 0 1\r\nx\r\n")
    server = Server(refill)
    watch_late_writes(server, lambda key: None)
    assert refill.sink.on_reply(refill) is None
    assert server.missed == [b"k"] and refill.sink is None


@pytest.mark.parametrize("end", ["failure", "internal error"])
def test_a_late_change_that_is_not_answered_is_told_as_it_is(end):
    """The server that failed has recorded it itself (Backend)."""
    owner = Owner()
    change = request_for(b"set k 0 0 1\r\nx\r\n")
    change.sink = owner
    server = Server(change)
    watch_late_writes(server, lambda key: None)
    assert (change.fail("timeout", "a:1") if end == "failure" else change.abandon()) == end
    assert (owner.heard, server.missed, change.sink) == ([change], [], None)


def test_a_change_may_be_late_twice():
    """The ring changes again before the reply."""
    owner = Owner()
    change = request_for(b"set k 0 0 1\r\nx\r\n")
    change.sink = owner
    server = Server(change)
    watch_late_writes(server, lambda key: None)
    watch_late_writes(server, lambda key: None)
    assert change.complete() == "ready"
    assert (set(server.missed), owner.heard) == ({b"k"}, [change])

"""The clients of a pool: busy ones share connections to servers, idle ones keep no memory, and the end of one session affects no other client."""

import os
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from support.loop import wait_until
from support.network import is_closed
from support.routes import options_of
from support.timing import PATIENCE

from gmproxy.client.context import PoolContext
from gmproxy.client.poller import poller_of_process
from gmproxy.client.sessions import CLIENTS_PER_CONNECTION, ROUND_INTERVAL, SESSIONS_PER_TICK
from gmproxy.process.worker_context import WorkerContext
from gmproxy.routing.router import Router


@pytest.fixture
def context():
    return WorkerContext()


@pytest.fixture
def service(context):
    options = options_of("-s", "127.0.0.1:1", "--hibernate-after", "1")
    return PoolContext(options, Router(options), context)


@pytest.fixture
def clients(service):
    made = service.clients
    yield made
    wait_until(lambda: made.drain_all(False) or not made)
    made.close()


class RecordingSession:
    """A session, as far as the rounds over all sessions use it."""

    will_hibernate = False

    def __init__(self):
        self.idle_rounds = 0
        self.connection_index = 7

    def maybe_hibernate(self, idle_rounds):
        self.idle_rounds += 1


def look_at_all(clients, now):
    for _ in range(-(-len(clients.sessions) // SESSIONS_PER_TICK)):
        clients.tick(now)


def test_the_busy_ones_share_the_links(clients):
    everybody = [RecordingSession() for _ in range(3 * CLIENTS_PER_CONNECTION)]
    clients.sessions.update(everybody)
    look_at_all(clients, 10.0)
    lanes = [one.connection_index for one in everybody]
    assert [lanes.count(connection_index) for connection_index in range(3)] == [CLIENTS_PER_CONNECTION] * 3
    for busy in everybody[:CLIENTS_PER_CONNECTION]:
        busy.idle_rounds = 0
    look_at_all(clients, 10.0 + ROUND_INTERVAL)
    assert {one.connection_index for one in everybody[:CLIENTS_PER_CONNECTION]} == {0}, "the others are silent, and need none"
    clients.sessions.clear()


def test_a_round_is_for_a_second_at_least(clients):
    one = RecordingSession()
    clients.sessions.add(one)
    for now in (10.0, 10.1, 10.9):
        clients.tick(now)
    assert one.idle_rounds == 1
    clients.tick(11.0)
    assert one.idle_rounds == 2
    clients.sessions.clear()


def let_time_pass(clients):
    for now in range(10, 15):
        clients.tick(float(now))
        gevent.sleep(0.01)


def talk(client, what):
    client.sendall(what)
    return client.recv(100)


def test_a_new_client_has_no_session_until_it_speaks(clients):
    ours, theirs = socket.socketpair()
    with ours:
        clients.add(theirs.detach())
        assert (len(clients), clients.idle(), len(clients.sessions)) == (1, 1, 0)
        assert talk(ours, b"mn\r\n") == b"MN\r\n"
        assert (len(clients), clients.idle(), len(clients.sessions)) == (1, 0, 1)


def test_what_has_arrived_before_is_answered_at_once(clients):
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"mn\r\n")
        clients.add(theirs.detach())
        ours.setblocking(False)
        assert ours.recv(100) == b"MN\r\n", "before the loop has run"


@pytest.mark.parametrize("first", [1, 17, 200])
@pytest.mark.parametrize("pause", [0, 0.01])
def test_many_requests_in_one_piece_and_then_more(clients, first, pause):
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours:
        clients.add(theirs.detach())
        for count in (first, 1, 300, 1):
            ours.sendall(b"mn\r\n" * count)
            answers = b""
            while len(answers) < 4 * count:
                answers += ours.recv(65536)
            assert answers == b"MN\r\n" * count
            gevent.sleep(pause)


def test_what_an_idle_client_said_is_still_counted(clients):
    ours, theirs = socket.socketpair()
    with ours:
        clients.add(theirs.detach())
        talk(ours, b"mn\r\n")
        let_time_pass(clients)
        assert (len(clients), clients.idle(), clients.traffic()) == (1, 1, (4, 4))
        clients.reset_traffic()
        talk(ours, b"mn\r\n")
        assert (clients.idle(), clients.traffic()) == (0, (4, 4))


@pytest.mark.parametrize("asked", range(6))
def test_clients_become_idle_with_and_without_a_greenlet(clients, asked):
    """After that they are served again."""
    ours, theirs = socket.socketpair()
    with ours:
        clients.add(theirs.detach())
        for _ in range(asked):
            assert talk(ours, b"mn\r\n") == b"MN\r\n"
        let_time_pass(clients)
        assert (len(clients), clients.idle()) == (1, 1)
        for _ in range(asked):
            assert talk(ours, b"mn\r\n") == b"MN\r\n"


@pytest.mark.parametrize("asked", range(6))
@pytest.mark.parametrize("last", [b"", b"quit\r\n", b"mn\r\nquit\r\n"])
def test_a_session_is_used_again_when_its_client_has_left(clients, asked, last):
    for _ in range(3):
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        with ours:
            clients.add(theirs.detach())
            for _ in range(asked):
                assert talk(ours, b"mn\r\n") == b"MN\r\n"
            ours.sendall(last)
            ours.shutdown(socket.SHUT_WR)
            assert ours.recv(100) == (b"MN\r\n" if last.startswith(b"mn") else b"")
        wait_until(lambda: not clients)


def test_the_rest_of_a_request_that_was_cut_off_concerns_nobody_else(clients):
    for left in b"get unfinish", b"set key 0 0 100\r\nabc", b"\x80\x0b\0\0":
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        with ours:
            clients.add(theirs.detach())
            ours.sendall(left)
            wait_until(lambda: clients.sessions, "its session")
        wait_until(lambda: not clients, "its end")
        ours, theirs = socket.socketpair()
        with ours:
            clients.add(theirs.detach())
            assert talk(ours, b"mn\r\n") == b"MN\r\n"


# -- an exception affects only its own client


def test_what_is_no_socket_is_closed(clients, context, tmp_path):
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    clients.add(fd)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert (len(clients), context.clients) == (0, 0)


@pytest.mark.parametrize("said", [b"", b"mn\r\n"])
def test_a_client_that_cannot_be_watched_is_closed(clients, context, said):
    """The kernel limits how many descriptors a user may watch. Here it refuses because the descriptor is already watched."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours:
        fd = theirs.detach()
        poller_of_process().watch(fd, None)
        ours.sendall(said)
        clients.add(fd)
        assert ours.recv(100) == said.upper()
        assert not said or is_closed(ours)
    assert (len(clients), context.clients) == (0, 0)


class RaisingSession(RecordingSession):
    def maybe_hibernate(self, idle_rounds):
        raise RuntimeError("trouble")

    leave = follow_options = maybe_hibernate


def test_a_session_that_raises_when_looked_at_stops_nobody(clients, internal_errors_counted):
    class Other(RecordingSession):
        def drain(self, after_next_reply):
            self.left = True

        def apply_options(self):
            self.followed = True

    others = [Other() for _ in range(5)]
    clients.sessions.update(others, [RaisingSession()])
    look_at_all(clients, 10.0)
    clients.apply_options()
    clients.drain_all(True)
    assert all(one.idle_rounds == 1 and one.left and one.followed for one in others)
    assert internal_errors_counted() == 3
    clients.sessions.clear()


def test_a_count_that_cannot_be_published_costs_no_client(clients, context, internal_errors_counted):
    def fail(*arguments):
        raise RuntimeError("trouble")

    context.client_counts = SimpleNamespace(set_clients=fail)
    ours, theirs = socket.socketpair()
    with ours:
        clients.add(theirs.detach())
        assert talk(ours, b"mn\r\n") == b"MN\r\n"
        context.client_counts = None
    assert internal_errors_counted() == 1

"""Who is busy has a link with not too many others, and who cannot be laid down stays awake."""

import os
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket

from gmproxy import internal_errors
from gmproxy.client.context import PoolContext
from gmproxy.client.idle import IdleClients
from gmproxy.client.sessions import CLIENTS_PER_CONNECTION, ROUND_INTERVAL, SESSIONS_PER_TICK
from gmproxy.config import configuration
from gmproxy.process.worker_context import WorkerContext
from gmproxy.routing.router import Router


@pytest.fixture
def clients():
    (options,), _ = configuration.parse(["-s", "127.0.0.1:1", "--hibernate-after", "1"], {})
    made = PoolContext(options, Router(SimpleNamespace(**vars(options), lanes=1)), WorkerContext()).clients
    yield made
    while made:
        made.drain_all(after_next_reply=False)
        gevent.sleep(0)
    made.close()


class Somebody:
    """A session, as far as it is looked at."""

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
    everybody = [Somebody() for _ in range(3 * CLIENTS_PER_CONNECTION)]
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
    one = Somebody()
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


def test_who_cannot_be_laid_down_stays_awake(clients, monkeypatch, caplog):
    def no_room(*facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IdleClients, "add", no_room)
    ours, theirs = socket.socketpair()
    with ours:
        clients.start_session(theirs.detach())
        assert talk(ours, b"mn\r\n") == b"MN\r\n"
        let_time_pass(clients)
        assert "client kept awake" in caplog.text
        assert (len(clients), clients.hibernating()) == (1, 0)
        assert talk(ours, b"mn\r\n") == b"MN\r\n"
        assert clients.traffic() == (8, 8)


def test_what_a_sleeper_said_is_still_counted(clients):
    ours, theirs = socket.socketpair()
    with ours:
        clients.start_session(theirs.detach())
        talk(ours, b"mn\r\n")
        let_time_pass(clients)
        assert (len(clients), clients.hibernating(), clients.traffic()) == (1, 1, (4, 4))
        clients.reset_traffic()
        talk(ours, b"mn\r\n")
        assert (clients.hibernating(), clients.traffic()) == (0, (4, 4))


# -- whatever raises costs the client that it concerns


@pytest.fixture
def trouble(monkeypatch):
    """trouble(owner, name): that method raises."""
    internal_errors.forget()

    def make(owner, name):
        def fail(*arguments, **options):
            raise RuntimeError("trouble")

        monkeypatch.setattr(owner, name, fail)

    yield make
    internal_errors.forget()


def is_closed(sock):
    """True if the other end was closed, with or without something unread; waits for that."""
    sock.settimeout(10)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_sleeper_who_cannot_be_woken_is_closed(clients, trouble):
    """The other one is woken, and nobody is counted twice."""
    pairs = [socket.socketpair() for _ in range(2)]
    for _, theirs in pairs:
        clients.start_session(theirs.detach())
    for ours, _ in pairs:
        talk(ours, b"mn\r\n")
    let_time_pass(clients)
    assert (len(clients), clients.hibernating()) == (2, 2)
    (first, _), (second, _) = pairs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmproxy.client.sessions.Session", None)
        first.sendall(b"mn\r\n")
        assert is_closed(first)
    assert (len(clients), clients._service.worker_context.clients, internal_errors.count()) == (1, 1, 1)
    assert talk(second, b"mn\r\n") == b"MN\r\n"


def test_a_client_who_cannot_be_seated_is_the_callers(clients):
    ours, theirs = socket.socketpair()
    fd = theirs.detach()
    with pytest.MonkeyPatch.context() as patch, ours:
        patch.setattr("gmproxy.client.sessions.Session", None)
        with pytest.raises(TypeError):
            clients.start_session(fd)
        os.close(fd)
    assert (len(clients), clients._service.worker_context.clients) == (0, 0)


def test_a_session_that_cannot_be_laid_down_is_closed(clients, trouble):
    ours, theirs = socket.socketpair()
    with ours:
        clients.start_session(theirs.detach())
        talk(ours, b"mn\r\n")
        trouble(IdleClients, "add")
        let_time_pass(clients)
        ours.settimeout(10)
        assert ours.recv(100) == b""
    assert (len(clients), clients._service.worker_context.clients, internal_errors.count()) == (0, 0, 1)


class Troublesome(Somebody):
    def maybe_hibernate(self, idle_rounds):
        raise RuntimeError("trouble")

    leave = follow_options = maybe_hibernate


def test_a_session_that_raises_when_looked_at_stops_nobody(clients, trouble):
    class Other(Somebody):
        def drain(self, after_next_reply):
            self.left = True

        def apply_options(self):
            self.followed = True

    others = [Other() for _ in range(5)]
    clients.sessions.update(others, [Troublesome()])
    look_at_all(clients, 10.0)
    clients.apply_options()
    clients.drain_all(after_next_reply=True)
    assert all(one.idle_rounds == 1 and one.left and one.followed for one in others)
    assert internal_errors.count() == 3
    clients.sessions.clear()


def test_a_count_that_cannot_be_noted_costs_no_client(clients, trouble):
    """The socket belongs to the session by then: nobody may close it."""
    counts = SimpleNamespace(set_clients=None)
    trouble(counts, "set_clients")
    clients._service.worker_context.client_counts = counts
    ours, theirs = socket.socketpair()
    with ours:
        clients.start_session(theirs.detach())
        assert talk(ours, b"mn\r\n") == b"MN\r\n"
        clients._service.worker_context.client_counts = None
    assert internal_errors.count() == 1

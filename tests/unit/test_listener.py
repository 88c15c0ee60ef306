"""What a client's socket is like when it comes in."""

import errno
import os
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket

from gmproxy import internal_errors
from gmproxy.client.listener import Farewells, Listener
from gmproxy.process.worker_context import WorkerContext
from gmproxy.system.descriptors import MAX_FAREWELLS
from gmproxy.transport import accept, tcp


def service(keepalive):
    """A service that keeps the descriptors it is given."""
    return SimpleNamespace(options=SimpleNamespace(tcpkeepalive=keepalive), connections=0, is_full=lambda: False, clients=Seats())


class Seats(list):
    start_session = list.append


@pytest.fixture
def place():
    """A listening socket, and a way to connect to it."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, sock.getsockname()


def next_client(listener, address):
    """The socket at our end of a new connection."""
    seats = listener.service.clients
    before = len(seats)
    with socket.create_connection(address):
        while len(seats) == before:
            gevent.sleep(0.01)
        return socket.socket(fileno=seats[-1])


@pytest.mark.parametrize("keepalive", [True, False])
def test_clients_have_the_options_of_the_service(place, keepalive):
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(keepalive))
    with next_client(listener, address) as client:
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert bool(client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
        assert (client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == tcp.KEEPALIVE_IDLE) is keepalive
        assert not os.get_blocking(client.fileno())
        assert not os.get_inheritable(client.fileno())
    listener.stop()


def test_who_comes_after_a_reload_has_the_new_ones(place):
    sock, address = place
    listener = Listener(sock, WorkerContext())
    for keepalive in True, False, True:
        listener.serve(service(keepalive))
        with next_client(listener, address) as client:
            assert bool(client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
    listener.stop()


def test_a_unix_socket_has_none_of_that(tmp_path):
    path = str(tmp_path / "socket")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        while not listener.service.clients:
            gevent.sleep(0.01)
    os.close(listener.service.clients[0])
    listener.stop()


@pytest.fixture
def internal_errors_counted():
    """internal_errors_counted(): how many since the test began."""
    internal_errors.forget()
    yield internal_errors.count
    internal_errors.forget()


class Trouble(Seats):
    """Raises for the first client."""

    def start_session(self, fd):
        self.append(fd)
        if len(self) == 1:
            raise RuntimeError("no seat")


def is_closed(sock):
    """True if the other end was closed; waits for that."""
    sock.settimeout(10)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_client_who_cannot_be_seated_is_closed_and_the_next_one_comes_in(place, internal_errors_counted):
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))
    seats = listener.service.clients = Trouble()
    with socket.create_connection(address) as first, socket.create_connection(address):
        assert is_closed(first)
        with gevent.Timeout(10):
            while len(seats) < 2:
                gevent.sleep(0.01)
        os.close(seats[1])
    assert internal_errors_counted() == 1
    listener.stop()


def test_a_connection_that_cannot_be_used_is_closed(place, internal_errors_counted, monkeypatch):
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))

    def fail(*connection):
        raise RuntimeError("no memory")

    monkeypatch.setattr(listener._server, "accepted", fail)
    with socket.create_connection(address) as client:
        assert is_closed(client)
    assert internal_errors_counted() == 1
    monkeypatch.undo()
    with next_client(listener, address):
        pass
    listener.stop()


@pytest.mark.parametrize(
    "number, pauses",
    [
        (errno.EMFILE, True),
        (errno.ENFILE, True),
        (errno.ENOBUFS, True),
        (errno.ENOMEM, True),
        (errno.EBADF, True),
        (errno.ECONNABORTED, False),
        (errno.EPROTO, False),
    ],
)
def test_an_accept_that_fails_is_tried_again(place, caplog, number, pauses):
    """Without a traceback on stderr; and where it is for a lack, at once only for what is turned away."""
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))
    server = listener._server
    real, failures = server.socket, [number]

    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def _accept(self):
            if failures:
                raise OSError(failures.pop(), "trouble")
            return real._accept()

    server.socket = Failing()
    with socket.create_connection(address) as client:
        if number in accept.EXHAUSTED:
            assert client.recv(100) == b"SERVER_ERROR too many connections\r\n"
        else:
            with gevent.Timeout(10):
                while not listener.service.clients:
                    gevent.sleep(0.01)
            os.close(listener.service.clients.pop())
    assert ("connection not accepted" in caplog.text) is pauses
    with next_client(listener, address):
        pass
    listener.stop()


def test_farewells_are_few(monkeypatch):
    """Those who are turned away beyond that get the words that the kernel takes at once."""
    pairs = [socket.socketpair() for _ in range(MAX_FAREWELLS + 20)]
    farewells = Farewells()
    for _, theirs in pairs:
        farewells.say(theirs.detach())
    assert farewells.count == MAX_FAREWELLS
    for ours, _ in pairs:
        assert ours.recv(100) == b"SERVER_ERROR too many connections\r\n"
        assert ours.recv(100) == b""
        ours.close()
    with gevent.Timeout(10):
        while farewells.count:
            gevent.sleep(0.01)

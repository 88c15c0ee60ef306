"""Accepting clients: the options of their sockets, clients beyond the limit, and accepts that fail."""

import errno
import os
import time
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from support.loop import wait_until
from support.timing import PATIENCE

from gmproxy.client.listener import Listener, Rejections
from gmproxy.process.worker_context import WorkerContext
from gmproxy.system.descriptors import MAX_REJECTIONS
from gmproxy.transport import accept, tcp
from gmproxy.transport.plain import PLAIN


class AcceptedClients(list):
    """Stands for the clients of a pool: their descriptors, in the order in which they were accepted."""

    add = list.append

    def accept(self, listening, most):
        for accepted in range(most):
            fd = PLAIN.accept(listening)
            if fd < 0:
                return accepted
            self.add(fd)
        return most

    def publish_count(self):
        pass


def service(keepalive, room=lambda: 1000):
    """A service that keeps the descriptors that it gets."""
    options = SimpleNamespace(tcpkeepalive=keepalive)
    return SimpleNamespace(
        options=options, connections=0, rejected=0, accept_failures=0, max_clients=0, room=room, clients=AcceptedClients()
    )


@pytest.fixture
def place():
    """A listening socket, and its address."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, sock.getsockname()


def next_client(listener, address):
    """The accepted socket of a new connection."""
    accepted_clients = listener.service.clients
    before = len(accepted_clients)
    with socket.create_connection(address, PATIENCE):
        wait_until(lambda: len(accepted_clients) > before)
        return socket.socket(fileno=accepted_clients[-1])


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
        client.settimeout(PATIENCE)
        client.connect(path)
        wait_until(lambda: listener.service.clients)
    os.close(listener.service.clients[0])
    listener.stop()


def test_what_raises_is_tried_again_after_a_pause(place, internal_errors_counted):
    """The client waits during the pause, and the loop does not retry in between."""
    sock, address = place
    listener = Listener(sock, WorkerContext())
    asked = []

    def room():
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise RuntimeError("no memory")
        return 1000

    listener.serve(service(True, room))
    with next_client(listener, address):
        pass
    assert internal_errors_counted() == 1
    assert asked[1] - asked[0] >= accept.RETRY_AFTER * 0.9
    listener.stop()


@pytest.mark.parametrize("verbose", [False, True])
def test_who_is_too_many_is_turned_away(place, caplog, verbose):
    sock, address = place
    caplog.set_level("DEBUG" if verbose else "INFO", "gmproxy")
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True, lambda: 2 - len(listener.service.clients)))
    ends = [socket.create_connection(address, PATIENCE) for _ in range(5)]
    words = [end.recv(100) for end in ends[2:]]
    assert words == [b"SERVER_ERROR too many connections\r\n"] * 3
    assert len(listener.service.clients) == 2
    assert listener.service.rejected == 3
    names = ["%s:%d" % end.getsockname() for end in ends]
    assert [name for name in names if f"client turned away client={name}" in caplog.text] == names[2:]
    assert [name for name in names if f"client connected client={name}" in caplog.text] == (names[:2] if verbose else [])
    for end in ends:
        end.close()
    for fd in listener.service.clients:
        os.close(fd)
    listener.stop()


def test_who_was_waiting_when_the_listener_stops_is_not_accepted(place):
    """Between gevent's event and the accept, the descriptor may have been reused."""
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))
    with socket.create_connection(address, PATIENCE):
        listener._server.do_read()
        listener.stop()
        gevent.sleep(0.01)
    assert listener.service.clients == []


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
    """Nothing is printed to stderr. If a resource is lacking, only connections that will be refused are accepted without a pause."""
    sock, address = place
    listener = Listener(sock, WorkerContext())
    listener.serve(service(True))
    accepted_clients, failures = listener.service.clients, [number]

    class Failing(AcceptedClients):
        def accept(self, listening, most):
            if failures:
                raise OSError(failures.pop(), "trouble")
            return super().accept(listening, most)

    accepted_clients = listener.service.clients = Failing()
    with socket.create_connection(address, PATIENCE) as client:
        if number in accept.EXHAUSTED:
            assert client.recv(100) == b"SERVER_ERROR too many connections\r\n"
        else:
            wait_until(lambda: accepted_clients)
            os.close(accepted_clients.pop())
    assert ("connection not accepted" in caplog.text) is pauses
    with next_client(listener, address):
        pass
    listener.stop()


def test_rejections_are_few(monkeypatch):
    """Beyond the maximum, refused clients get the part of the error that the kernel takes at once."""
    pairs = [socket.socketpair() for _ in range(MAX_REJECTIONS + 20)]
    rejections = Rejections()
    for _, theirs in pairs:
        rejections.reject(theirs.detach())
    assert rejections.count == MAX_REJECTIONS
    for ours, _ in pairs:
        ours.settimeout(PATIENCE)
        assert ours.recv(100) == b"SERVER_ERROR too many connections\r\n"
        assert ours.recv(100) == b""
        ours.close()
    wait_until(lambda: not rejections.count)

"""What a client's socket is like when it comes in."""

import os
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket

from gmproxy import net
from gmproxy.listener import Listener
from gmproxy.share import Share


def service(keepalive):
    """A service that keeps the descriptors it is given."""
    return SimpleNamespace(options=SimpleNamespace(tcpkeepalive=keepalive), connections=0, is_full=lambda: False, clients=Seats())


class Seats(list):
    seat = list.append


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
    listener = Listener(sock, Share())
    listener.serve(service(keepalive))
    with next_client(listener, address) as client:
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert bool(client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
        assert (client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == net.KEEPALIVE_IDLE) is keepalive
        assert not os.get_blocking(client.fileno())
        assert not os.get_inheritable(client.fileno())
    listener.stop()


def test_who_comes_after_a_reload_has_the_new_ones(place):
    sock, address = place
    listener = Listener(sock, Share())
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
    listener = Listener(sock, Share())
    listener.serve(service(True))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        while not listener.service.clients:
            gevent.sleep(0.01)
    os.close(listener.service.clients[0])
    listener.stop()

"""Options of TCP connections, the names of their peers, and accepting with the address."""

import os
import socket

import pytest
from support.network import reset
from support.timing import PATIENCE

from gmproxy.transport import tcp

HOST = "127.0.0.1"


@pytest.fixture
def listener():
    with socket.create_server((HOST, 0)) as sock:
        sock.setblocking(False)
        yield sock


def option(sock, level, name):
    return sock.getsockopt(level, name)


@pytest.mark.parametrize("keepalive", [True, False])
def test_connections_inherit_the_options_of_their_listener(listener, keepalive):
    tcp.tune(listener, keepalive)
    with socket.create_connection(listener.getsockname(), PATIENCE):
        with listener.accept()[0] as accepted:
            assert option(accepted, socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert bool(option(accepted, socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keepalive
            if keepalive:
                found = [
                    option(accepted, socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                ]
                assert found == [tcp.KEEPALIVE_IDLE, tcp.KEEPALIVE_INTERVAL, tcp.KEEPALIVE_COUNT]


def test_the_name_of_a_peer(listener):
    with socket.create_connection(listener.getsockname(), PATIENCE) as client, listener.accept()[0] as accepted:
        assert tcp.peer_name(accepted.fileno()) == "%s:%d" % client.getsockname()
        reset(client)
        assert tcp.peer_name(accepted.fileno()) == "disconnected"
        assert accepted.fileno() >= 0, "its descriptor stays open"


def test_the_name_of_a_peer_over_a_unix_socket(ends):
    assert tcp.peer_name(ends[0].fileno()) == "unix"


@pytest.mark.parametrize("address, name", [((HOST, 1), "127.0.0.1:1"), (("::1", 1, 0, 0), "::1:1"), ("/run/sock", "unix"), (b"", "unix")])
def test_addresses_as_log_lines_show_them(address, name):
    assert tcp.host_and_port(address) == name


def test_accept(listener):
    assert tcp.accept(listener.fileno()) is None, "nobody waits"
    with socket.create_connection(listener.getsockname(), PATIENCE) as client:
        fd, address = tcp.accept(listener.fileno())
        assert address == client.getsockname()
        assert not os.get_blocking(fd) and not os.get_inheritable(fd)
        os.close(fd)
    assert listener.fileno() >= 0
    with open(os.devnull) as no_socket, pytest.raises(OSError):
        tcp.accept(no_socket.fileno())

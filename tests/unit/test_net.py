"""Connections to servers."""

import socket

import pytest
from support.servers import HOST, free_port

from gmproxy import net
from gmproxy.address import Server
from gmproxy.errors import BackendError


def options(sock):
    return {
        "nodelay": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        "keepalive": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "idle": sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    }


@pytest.mark.parametrize("keepalive", [True, False])
def test_a_connection_over_tcp(keepalive):
    with socket.create_server((HOST, 0)) as listener:
        server = Server(*listener.getsockname())
        with net.connect(server, 1, keepalive) as sock, listener.accept()[0] as peer:
            assert not sock.getblocking()
            found = options(sock)
            assert (bool(found["nodelay"]), bool(found["keepalive"])) == (True, keepalive)
            assert (found["idle"] == net.KEEPALIVE_IDLE) is keepalive
            peer.send(b"x")
            sock.settimeout(1)
            assert sock.recv(1) == b"x"


def test_a_connection_over_a_unix_socket(tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with net.connect(Server(path, 0, unix_path=path), 1) as sock:
            assert sock.family == socket.AF_UNIX
            assert not sock.getblocking()


@pytest.mark.parametrize("server, detail", [
    (Server(HOST, free_port()), "Connection refused"),
    (Server("/no/where", 0, unix_path="/no/where"), "No such file or directory"),
    (Server("no such host", 1), "not known"),
    (Server("a..b", 1), "idna"),
])
def test_no_connection(server, detail):
    with pytest.raises(BackendError) as caught:
        net.connect(server, 1)
    assert caught.value.reason == "connecting"
    assert detail in caught.value.detail


def test_a_server_that_does_not_answer():
    """Its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        with pytest.raises(BackendError) as caught:
            net.connect(Server(*listener.getsockname()), 0.1)
        assert caught.value.reason == "connecting"
        for sock in waiting:
            sock.close()

"""Connections to servers."""

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading

import gevent
import pytest
from support.network import full_listener
from support.servers import HOST, environment, free_port
from support.timing import PATIENCE, PROGRAM_TIMEOUT, TICK

from gmproxy.backend import connect
from gmproxy.backend.resolver import Names
from gmproxy.errors import CONNECTING, OVERLOAD, BackendError, LocalError
from gmproxy.placement.server_spec import Server
from gmproxy.transport import tcp


@pytest.fixture
def full():
    """The address of a listener that accepts no further connection."""
    with full_listener() as address:
        yield address


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
        with connect.connect(server, 1, keepalive) as sock, listener.accept()[0] as peer:
            assert not sock.getblocking()
            found = options(sock)
            assert (bool(found["nodelay"]), bool(found["keepalive"])) == (True, keepalive)
            assert (found["idle"] == tcp.KEEPALIVE_IDLE) is keepalive
            peer.send(b"x")
            sock.settimeout(1)
            assert sock.recv(1) == b"x"


def test_a_connection_over_a_unix_socket(tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with connect.connect(Server(path, 0, unix_path=path), 1) as sock:
            assert sock.family == socket.AF_UNIX
            assert not sock.getblocking()


@pytest.mark.parametrize(
    "server, detail",
    [
        (Server(HOST, free_port()), "Connection refused"),
        (Server("/no/where", 0, unix_path="/no/where"), "No such file or directory"),
        (Server("no such host", 1), "not known"),
        (Server("a..b", 1), "idna"),
    ],
)
def test_no_connection(server, detail):
    with pytest.raises(BackendError) as caught:
        connect.connect(server, 1)
    assert caught.value.reason == "connecting"
    assert detail in caught.value.detail


def test_a_server_that_does_not_answer(full):
    """Its queue of connections is full."""
    with pytest.raises(BackendError) as caught:
        connect.connect(Server(*full), 2 * TICK)
    assert caught.value.reason == "connecting"


# -- one deadline for all attempts


def stands_for(monkeypatch, *addresses):
    """Every name has these addresses, in this order."""

    def look_up(host):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(connect, "names", Names(look_up))


def test_the_addresses_of_a_name_share_the_time(monkeypatch, full):
    """With the whole time for each, forty that do not reply would take longer than the test waits."""
    stands_for(monkeypatch, *[HOST] * 40)
    connecting = gevent.spawn(connect.connect, Server("cache", full[1]), 10 * TICK)
    with pytest.raises(BackendError) as caught:
        connecting.get(timeout=PATIENCE)
    assert caught.value.reason == CONNECTING and not isinstance(caught.value, LocalError)


def test_the_lookup_is_part_of_the_time(monkeypatch):
    def look_up(host):  # runs in a thread
        over.wait(PATIENCE)
        found.append(host)
        return []

    over = threading.Event()
    found = []

    monkeypatch.setattr(connect, "names", Names(look_up))
    with pytest.raises(LocalError) as caught:
        connect.connect(Server("cache", 1), 2 * TICK)
    assert caught.value.reason == CONNECTING and "name service" in caught.value.detail
    assert not found, "the lookup is not waited for"
    over.set()


def test_an_address_that_refuses_is_no_end(monkeypatch):
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        stands_for(monkeypatch, "127.0.0.2", HOST)
        with connect.connect(Server("cache", port), 1) as sock:
            assert sock.getpeername() == (HOST, port)
        stands_for(monkeypatch, "127.0.0.2", "127.0.0.3")
        with pytest.raises(BackendError) as caught:
            connect.connect(Server("cache", port), 1)
        assert (caught.value.reason, caught.value.detail) == (CONNECTING, "Connection refused")


def test_a_unix_socket_whose_server_does_not_accept(tmp_path):
    """The kernel reports EAGAIN, as it does if no TCP port is free. But here it is the server's fault, and may be temporary."""
    path = str(tmp_path / "sock")
    server = Server(path, 0, unix_path=path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        listener.settimeout(PATIENCE)
        with connect.connect(server, 1):
            with pytest.raises(BackendError) as caught:
                connect.connect(server, 2 * TICK)
            assert caught.value.reason == CONNECTING and not isinstance(caught.value, LocalError)
            connecting = gevent.spawn(connect.connect, server, 10)
            gevent.sleep(TICK)
            listener.accept()[0].close()
            connecting.get(timeout=10).close()


# -- faults that are not the server's


class Broken(socket.socket):
    """`connect` returns what the test sets."""

    status = 0

    def connect_ex(self, address):
        return self.status


@pytest.mark.parametrize("status", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN])
@pytest.mark.parametrize("where", ["socket", "connect"])
def test_what_we_lack_is_no_failure_of_the_server(monkeypatch, status, where):
    def refuse(*arguments):
        raise OSError(status, os.strerror(status))

    broken = type("Broken", (Broken,), {"status": status})
    monkeypatch.setattr(connect.socket, "socket", refuse if where == "socket" else broken)
    with pytest.raises(LocalError) as caught:
        connect.connect(Server(HOST, 1), 1)
    assert (caught.value.reason, caught.value.detail) == (OVERLOAD, os.strerror(status))


@pytest.mark.parametrize("status", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT])
def test_what_the_network_says_is(monkeypatch, status):
    monkeypatch.setattr(connect.socket, "socket", type("Broken", (Broken,), {"status": status}))
    with pytest.raises(BackendError) as caught:
        connect.connect(Server(HOST, 1), 1)
    assert caught.value.reason == CONNECTING and not isinstance(caught.value, LocalError)


#: In a network namespace, where it may set the number of local ports: uses all of them, and prints the result of the next connection.
OF_PORTS = """
import socket, sys
from gmproxy.backend import connect as net
from gmproxy.placement.server_spec import Server
from gmproxy.transport import tcp
from gmproxy.errors import BackendError

listener = socket.create_server(("127.0.0.1", 15000), backlog=100)
kept = []
try:
    while len(kept) < 50:
        kept.append(net.connect(Server(sys.argv[1], 15000), 1))
except BackendError as error:
    print(len(kept), type(error).__name__, error)
"""

NETWORK = "ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range='20000 20019' net.ipv6.conf.all.disable_ipv6=1 && exec \"$@\""


def has_own_network():
    command = ["unshare", "--net", "sh", "-c", NETWORK, "sh", "true"]
    return (
        not os.getuid()
        and shutil.which("unshare")
        and subprocess.run(command, capture_output=True, timeout=PROGRAM_TIMEOUT).returncode == 0
    )


@pytest.mark.skipif(not has_own_network(), reason="takes root: a network namespace")
@pytest.mark.parametrize(
    "host, said",
    [
        (HOST, "20 LocalError overload: no local port is free\n"),
        ("::1", "0 BackendError connecting: Cannot assign requested address\n"),  # the same errno, because this host has no such address
    ],
)
def test_local_ports(host, said):
    command = ["unshare", "--net", "sh", "-c", NETWORK, "sh", sys.executable, "-c", OF_PORTS, host]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.stdout == said, done.stderr


# -- no descriptor is leaked


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("fails", ["tune", "_LOGINS"])
def test_a_connection_that_comes_to_nothing_is_closed(monkeypatch, fails):
    """After an internal error too."""

    def raise_(*arguments):
        raise ValueError("a fault of the test")

    monkeypatch.setattr(tcp if fails == "tune" else connect, fails, raise_ if fails == "tune" else {"text": raise_})
    user = type("Credentials", (), {"single": lambda self: (b"one", b"secret")})()
    with socket.create_server((HOST, 0)) as listener:
        before = descriptors()
        with pytest.raises(ValueError):
            connect.connect(Server(*listener.getsockname()), 1, users=user)
        assert descriptors() == before

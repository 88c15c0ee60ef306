"""Listening sockets: bound or refused with one clear line, and no file is left."""

import os
import socket
import stat
from types import SimpleNamespace

import pytest
from support.network import needs_ipv6
from support.servers import HOST, free_port
from support.timing import PATIENCE

from gmproxy.errors import StartError
from gmproxy.system import safe_files, sockets


def wanted(**settings):
    defaults = {"listen": HOST, "port": 0, "unix_socket": "", "unix_mode": "", "backlog": 16}
    return SimpleNamespace(**(defaults | settings))


def accepts(sock, path=None):
    """`path` is that of a unix socket: the kernel may have another name for it."""
    with socket.socket(sock.family) as client:
        client.settimeout(1)
        client.connect(path or sock.getsockname())
        sock.accept()[0].close()
    return True


def test_tcp():
    with sockets.bind_tcp(HOST, 0, 5) as sock:
        assert accepts(sock)


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_in_brackets_or_not(host):
    with sockets.bind_tcp(host, 0, 5) as sock:
        assert sock.family == socket.AF_INET6
        assert sockets.address_of(sock) == f"[::1]:{sock.getsockname()[1]}"


def test_a_port_in_use():
    with sockets.bind_tcp(HOST, 0, 5) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on {HOST}:{port}: Address already in use"):
            sockets.bind_tcp(HOST, port, 5)


def test_a_port_is_free_again_at_once():
    """The kernel still has the closed connections of the socket before."""
    with sockets.bind_tcp(HOST, 0, 5) as sock, socket.create_connection(sock.getsockname(), PATIENCE) as client:
        port = sock.getsockname()[1]
        accepted, _ = sock.accept()
        accepted.close()
        client.recv(1)
    with sockets.bind_tcp(HOST, port, 5) as sock:
        assert accepts(sock)


def test_an_address_that_is_not_ours():
    with pytest.raises(StartError, match="cannot listen on 192.0.2.1:1: Cannot assign requested address"):
        sockets.bind_tcp("192.0.2.1", 1, 5)


@pytest.mark.parametrize("host", ["no such host", "a..b", "x" * 64])
def test_a_host_that_cannot_be(host):
    with pytest.raises(StartError, match=f"cannot listen on '{host}'"):
        sockets.bind_tcp(host, 1, 5)


def test_unix(tmp_path):
    with sockets.bind_unix(str(tmp_path / "sock"), 5) as sock:
        assert accepts(sock, str(tmp_path / "sock"))
    assert os.listdir(tmp_path) == ["sock"]


def test_permissions_of_a_unix_socket(tmp_path):
    path = tmp_path / "sock"
    with sockets.bind_unix(str(path), 5, "0620"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o620


def test_a_socket_that_was_left_behind_is_replaced(tmp_path):
    path = str(tmp_path / "sock")
    sockets.bind_unix(path, 5).close()
    with sockets.bind_unix(path, 5) as sock:
        assert accepts(sock, path)


def test_a_socket_that_somebody_listens_on_is_not(tmp_path):
    path = str(tmp_path / "sock")
    with sockets.bind_unix(path, 5) as sock:
        with pytest.raises(StartError, match=f"cannot listen on {path}: Address already in use"):
            sockets.bind_unix(path, 5)
        accepted, _ = sock.accept()  # the check whether another process listens
        accepted.close()
        assert accepts(sock, path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(StartError, match="the file exists and is not a socket"):
        sockets.bind_unix(str(path), 5)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["/no/such/directory/sock", "/tmp/" + "x" * 200])
def test_a_path_that_cannot_be(path):
    with pytest.raises(StartError, match="cannot listen on"):
        sockets.bind_unix(path, 5)


def test_the_places_of_a_pool():
    assert sockets.listen_addresses(wanted(listen=f"{HOST}, [::1],::", port=1, unix_socket="/s")) == [
        f"{HOST}:1",
        "[::1]:1",
        "[::]:1",
        "/s",
    ]
    assert sockets.listen_addresses(wanted(listen=f"{HOST},{HOST}", port=1)) == [f"{HOST}:1"]
    assert sockets.listen_addresses(wanted(unix_socket="/s")) == ["/s"]


def test_each_place_can_be_bound(tmp_path):
    config = wanted(listen=f"{HOST}, 127.0.0.2", port=free_port(), unix_socket=str(tmp_path / "sock"))
    for place in sockets.listen_addresses(config):
        with sockets.bind(config, place) as sock:
            assert accepts(sock, place if place.startswith("/") else None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has another way")
def test_the_same_where_only_root_may_write(tmp_path, monkeypatch):
    """The kernel has the socket's own name too, as `ss` shows it."""
    monkeypatch.setattr(safe_files, "is_safe", lambda path: True)
    path = str(tmp_path / "sock")
    sockets.bind_unix(path, 5).close()
    with sockets.bind_unix(path, 5, "0620", (65534, 65534)) as sock:
        assert accepts(sock)
        assert sockets.address_of(sock) == path
    facts = os.stat(path)
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o620, 65534, 65534)


def test_what_is_no_socket_is_not_removed(tmp_path):
    path = tmp_path / "data"
    path.write_text("precious")
    sockets.remove_unix_socket(str(path))
    link = tmp_path / "link"
    link.symlink_to(path)
    sockets.remove_unix_socket(str(link))
    assert path.exists() and link.is_symlink()
    with pytest.raises(StartError, match="the file exists and is not a socket"):
        sockets.bind_unix(str(link), 5)


def test_a_refusal_leaves_nothing_in_the_directory(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(StartError, match="cannot listen on .*: Operation not permitted"):
        sockets.bind_unix(str(tmp_path / "sock"), 5, "0600")
    assert os.listdir(tmp_path) == []

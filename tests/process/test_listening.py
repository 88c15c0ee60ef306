"""Where clients connect and where servers are: TCP, IPv6, unix sockets, several at once."""

import os
import stat

import pytest
from support.network import needs_ipv6
from support.servers import HOST, Memcached, free_port, run
from support.talk import Talk, storage, value

FOUND = value(b"k", b"hello") + b"END\r\n"


def check(talk):
    with talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
        talk.expect(b"get k\r\n", FOUND)
        talk.in_step()


# -- clients


def test_a_unix_socket_beside_tcp(memcached, proxy, tmp_path):
    path = tmp_path / "proxy.sock"
    process = proxy("-s", memcached().address, "-f", path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    check(process.talk())
    check(Talk(path=path))


def test_a_unix_socket_alone(memcached, proxy, tmp_path):
    path = tmp_path / "proxy.sock"
    process = proxy("-s", memcached().address, "-f", path, "-p", "0", path=path)
    check(process.talk())
    assert not tcp_listeners(process.pid)


def tcp_listeners(pid):
    """Inodes of the listening TCP sockets that `pid` has open."""
    listening = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as lines:
            listening |= {words[9] for words in map(str.split, lines) if words[3] == "0A"}
    links = (os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd"))
    return listening & {link[8:-1] for link in links if link.startswith("socket:[")}


def test_a_socket_that_was_left_behind_is_replaced(memcached, proxy, tmp_path):
    path = tmp_path / "proxy.sock"
    server = memcached().address
    proxy("-s", server, "-f", path).kill()
    assert path.exists()
    proxy("-s", server, "-f", path)
    check(Talk(path=path))


def test_a_socket_in_use_is_not_taken_away(memcached, proxy, tmp_path):
    path = tmp_path / "proxy.sock"
    server = memcached().address
    proxy("-s", server, "-f", path)
    done = run("-s", server, "-l", HOST, "-p", free_port(), "-f", path)
    assert done.returncode == 1
    assert done.stderr == f"gmproxy: unix_socket: cannot listen on {path}: Address already in use\n"
    check(Talk(path=path))


def test_several_addresses(memcached, proxy):
    port = free_port()
    proxy("-s", memcached().address, "-l", "127.0.0.1,127.0.0.2", "-p", port, port=port)
    check(Talk(port, "127.0.0.1"))
    check(Talk(port, "127.0.0.2"))


def test_all_addresses_by_default(memcached, proxy):
    port = free_port()
    proxy("-s", memcached().address, "-p", port, port=port)
    check(Talk(port, "127.0.0.3"))


@needs_ipv6
@pytest.mark.parametrize("written", ["::1", "[::1]"])
def test_ipv6(memcached, proxy, written):
    port = free_port("::1")
    proxy("-s", memcached().address, "-l", written, "-p", port, port=port, host="::1")
    check(Talk(port, "::1"))


@needs_ipv6
def test_both_families(memcached, proxy):
    port = free_port()
    proxy("-s", memcached().address, "-l", f"{HOST},::1", "-p", port, port=port)
    check(Talk(port, HOST))
    check(Talk(port, "::1"))


def test_a_host_name(memcached, proxy):
    port = free_port()
    server = memcached()
    proxy("-s", f"localhost:{server.port}", "-l", "localhost", "-p", port, port=port, host="localhost")
    check(Talk(port, "localhost"))


# -- servers


@needs_ipv6
def test_a_server_on_ipv6(memcached, proxy):
    server = memcached(host="::1")
    assert server.address.startswith("[::1]:")
    check(proxy("-s", server.address).talk())


def test_a_server_on_a_unix_socket(proxy, shared_directory):
    with Memcached(unix_socket=shared_directory / "memcached.sock") as server:
        assert server.address == f"unix:{shared_directory}/memcached.sock"
        process = proxy("-s", server.address, "-b", str(server.path))
        check(process.talk())
        server.kill()
        with process.talk() as talk:
            line = talk.ask(storage(b"set", b"k", b"hello"))
            assert line == b"SERVER_ERROR connecting unix:%b\r\n" % str(server.path).encode()
            talk.in_step()

"""Listening sockets by address: bound, kept over a change of the configuration, passed from one process to the next."""

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.servers import HOST, environment, free_port
from support.timing import PATIENCE

from gmproxy.errors import StartError
from gmproxy.process.listeners import HANDED_OVER, ListeningSockets


def pool(name="", **settings):
    defaults = {"listen": HOST, "port": 0, "unix_socket": "", "unix_mode": "", "backlog": 16, "admin": "", "stats_port": ""}
    return SimpleNamespace(name=name, **(defaults | settings))


@pytest.fixture
def listening_sockets():
    made = ListeningSockets({})
    yield made
    made.close()


def answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_what_is_asked_for_is_opened(listening_sockets, tmp_path):
    ports = free_port(), free_port()
    one = pool("one", listen=f"{HOST}, 127.0.0.2", port=ports[0], unix_socket=str(tmp_path / "sock"))
    two = pool("two", port=ports[1])
    new = listening_sockets.bind_new([one, two])
    assert list(new) == [f"{HOST}:{ports[0]}", f"127.0.0.2:{ports[0]}", str(tmp_path / "sock"), f"{HOST}:{ports[1]}"]
    assert listening_sockets.all_addresses([one, two]) == {"one": list(new)[:3], "two": list(new)[3:]}
    assert listening_sockets.bind_new([one, two]) == {}


def test_one_refusal_and_none_is_left_open(listening_sockets):
    port = free_port()
    with socket.create_server((HOST, 0)) as taken:
        with pytest.raises(StartError, match="Address already in use"):
            listening_sockets.bind_new([pool("one", port=port), pool("two", port=taken.getsockname()[1])])
    assert not answers(f"{HOST}:{port}")
    assert listening_sockets.sockets == {}


def test_what_is_no_longer_asked_for_is_closed(listening_sockets, tmp_path):
    first, second = pool(port=free_port(), unix_socket=str(tmp_path / "sock")), pool(port=free_port())
    listening_sockets.bind_new([first])
    listening_sockets.bind_new([second])
    listening_sockets.close_unused([second])
    assert not answers(f"{HOST}:{first.port}") and answers(f"{HOST}:{second.port}")
    assert not (tmp_path / "sock").exists()


def test_new_ones_can_be_taken_back(listening_sockets):
    first, second = pool(port=free_port()), pool(port=free_port())
    listening_sockets.bind_new([first])
    listening_sockets.discard(listening_sockets.bind_new([second]))
    assert answers(f"{HOST}:{first.port}") and not answers(f"{HOST}:{second.port}")


@pytest.mark.parametrize("successor", [False, True])
def test_files_go_unless_somebody_has_their_sockets(listening_sockets, tmp_path, successor):
    listening_sockets.bind_new([pool(unix_socket=str(tmp_path / "sock"))])
    listening_sockets.open_control(str(tmp_path / "control"), (-1, -1))
    listening_sockets.close(successor)
    assert [(tmp_path / name).exists() for name in ("sock", "control")] == [successor] * 2


# -- passed to another process

TAKE_OVER = """
import os, sys
from gmproxy.process.listeners import ListeningSockets
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
listening_sockets = ListeningSockets(os.environ)
left = [name for name in os.environ if name.startswith("LISTEN_") or name == "GMPROXY_HANDED_OVER"]
inheritable = [sock.get_inheritable() for sock in listening_sockets.sockets.values()]
taken = listening_sockets
print(list(taken.sockets), taken.activated, taken.predecessor, taken.control is not None, left, inheritable)
for sock in listening_sockets.sockets.values():
    sock.setblocking(True)
    sock.accept()[0].sendall(b"here")
if listening_sockets.report_to:
    os.write(listening_sockets.report_to, b"ready")
"""


def test_a_successor_takes_over(listening_sockets, tmp_path):
    config = pool(port=free_port())
    (address,) = listening_sockets.bind_new([config])
    listening_sockets.open_control(str(tmp_path / "control"), (-1, -1))
    reading, writing = os.pipe()
    with listening_sockets.handing_over(writing) as told:
        child = subprocess.Popen(
            [sys.executable, "-c", TAKE_OVER], env=environment(**told), stdout=subprocess.PIPE, text=True, close_fds=False
        )
    os.close(writing)
    with socket.create_connection((HOST, config.port), PATIENCE) as client:  # waits in the queue that both processes have
        listening_sockets.close(successor=True)
        assert client.recv(4) == b"here"
    with open(reading) as pipe:
        assert pipe.read() == "ready"
    assert child.communicate(timeout=PATIENCE)[0] == f"{[address]} False {os.getpid()} True [] [False]\n"
    assert not listening_sockets.sockets


def activated(*listening):
    """Run TAKE_OVER with the sockets, passed as by systemd."""

    def arrange():
        for target, sock in enumerate(listening, 3):
            os.dup2(sock.fileno(), target)

    lowest = min(sock.fileno() for sock in listening)
    assert lowest > 2 + len(listening), "the test needs these numbers itself"
    return subprocess.Popen(
        [sys.executable, "-c", TAKE_OVER],
        env=environment(LISTEN_FDS=str(len(listening))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=range(3, 3 + len(listening)),
        preexec_fn=arrange,
    )


@pytest.fixture
def high():
    """A listening socket whose descriptor is above those that systemd uses."""
    with socket.create_server((HOST, 0)) as sock:
        copies = [sock.dup() for _ in range(8)]
        yield copies[-1]
        for copy in copies:
            copy.close()


def test_systemd_hands_over(high):
    child = activated(high)
    with socket.create_connection(high.getsockname(), PATIENCE) as client:
        assert client.recv(4) == b"here"
    name = f"{HOST}:{high.getsockname()[1]}"
    assert child.communicate(timeout=PATIENCE)[0] == f"{[name]} True None False [] [False]\n"


def test_what_was_meant_for_another_process_is_left_alone():
    listening_sockets = ListeningSockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert (listening_sockets.sockets, listening_sockets.activated) == ({}, False)


def test_sockets_of_systemd_are_those_of_the_only_pool():
    listening_sockets = ListeningSockets({})
    listening_sockets.activated = True
    with socket.create_server((HOST, 0)) as sock:
        listening_sockets.sockets = {"[::]:11211": sock}
        assert listening_sockets.addresses_of(pool(port=12000)) == ["[::]:11211"]
        assert listening_sockets.addresses_of(pool("alpha", port=12000)) == [f"{HOST}:12000"]
        assert listening_sockets.bind_new([pool(port=12000)]) == {}


def test_what_is_no_listening_socket_is_refused():
    with socket.socket() as sock:
        facts = '{"sockets": {"a:1": %d}, "control": null, "activated": false, "report_to": %d, "pid": 1}'
        copy = os.dup(sock.fileno())
        with pytest.raises(StartError, match=f"the file descriptor {copy} passed to this process is not a listening stream socket"):
            ListeningSockets({HANDED_OVER: facts % (copy, sock.fileno())})


def test_who_looks_after_the_service_is_let_in_to_the_end(listening_sockets):
    client, admin = free_port(), f"{HOST}:{free_port()}"
    config = pool(port=client, admin=admin)
    assert set(listening_sockets.bind_new([config])) == {f"{HOST}:{client}", admin}
    assert listening_sockets.addresses_of(config) == [f"{HOST}:{client}"]
    listening_sockets.close_to_clients(config)
    assert set(listening_sockets.sockets) == {admin}
    assert answers(admin) and not answers(f"{HOST}:{client}")

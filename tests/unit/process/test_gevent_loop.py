"""gevent's loop behind the interface of the master's loop, and control connections served in it."""

import json
import os

import gevent
import gevent.event
import pytest
from gevent import socket
from support.timing import PATIENCE

from gmproxy.process.control_server import MAX_COMMANDS, ControlServer
from gmproxy.process.gevent_loop import GeventLoop

TIMEOUT = 10


@pytest.fixture(autouse=True)
def in_time():
    with gevent.Timeout(TIMEOUT):
        yield


@pytest.fixture
def pipe():
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def turns():
    """Runs the loop for a few turns, in which it checks the descriptors."""
    gevent.sleep(0.1)


def fail():
    raise KeyError("x")


def test_reader_and_writer(pipe):
    loop, (reading, writing), called = GeventLoop(), pipe, []
    loop.add_reader(reading, lambda: called.append(os.read(reading, 10)), fail)
    loop.add_writer(writing, lambda: (loop.remove_writer(writing), os.write(writing, b"x")))
    turns()
    assert called == [b"x"]
    loop.add_reader(reading, lambda: called.append(len(os.read(reading, 10))), fail)  # replaces the first
    os.write(writing, b"abc")
    turns()
    loop.remove_reader(reading)
    os.write(writing, b"d")
    turns()
    assert called == [b"x", 3]
    loop.remove(reading)
    loop.remove(reading)
    loop.remove(writing)


def test_a_callback_that_raises(pipe, internal_errors_counted):
    loop, (reading, writing), called = GeventLoop(), pipe, []
    loop.add_reader(reading, fail, lambda: (called.append("on_error"), loop.remove(reading)))
    os.write(writing, b"x")
    turns()
    assert (called, internal_errors_counted()) == (["on_error"], 1)


def test_timers(internal_errors_counted):
    loop, called = GeventLoop(), []
    loop.call_later(0, lambda: called.append("called"))
    loop.cancel(loop.call_later(0, lambda: called.append("cancelled")))
    loop.call_later(0, fail)
    loop.cancel(None)
    gevent.sleep(0.1)
    assert (called, internal_errors_counted()) == (["called"], 1)


def test_a_timer_that_cancels_itself_may_still_wait():
    loop, called = GeventLoop(), []

    def expire():
        loop.cancel(timer)
        gevent.sleep(0.001)
        called.append("waited")

    timer = loop.call_later(0, expire)
    gevent.sleep(0.05)
    assert called == ["waited"]


def test_a_task_may_wait(internal_errors_counted):
    loop, called = GeventLoop(), []
    loop.run_task(lambda: (gevent.sleep(0.001), called.append("done")))
    loop.run_task(fail)
    gevent.sleep(0.05)
    assert (called, internal_errors_counted()) == (["done"], 1)


# -- operators


@pytest.fixture
def connect():
    """connect(server): an operator's connection to the server."""
    made = []

    def connect(server):
        ours, theirs = socket.socketpair()
        made.append(ours)
        server.accept(theirs)
        return ours

    yield connect
    for sock in made:
        sock.close()
    turns()


def command(name):
    return json.dumps({"command": name}).encode() + b"\n"


def rest(sock):
    sock.shutdown(socket.SHUT_WR)
    return [json.loads(line) for line in b"".join(iter(lambda: sock.recv(1 << 16), b"")).splitlines()]


def test_a_command_that_waits_holds_up_its_operator_only(connect):
    released = gevent.event.Event()

    def run_command(name, arguments, then):
        if name == "slow":
            released.wait(PATIENCE)
        then({"name": name})

    server = ControlServer(GeventLoop(), run_command)
    one, other = connect(server), connect(server)
    one.sendall(command("slow") + command("next") * 3 * MAX_COMMANDS)
    gevent.sleep(0.1)
    one.sendall(command("last"))  # not read before the others have been started
    other.sendall(command("quick"))
    assert rest(other) == [{"name": "quick"}]
    released.set()
    assert [result["name"] for result in rest(one)] == ["slow", *["next"] * 3 * MAX_COMMANDS, "last"]


def test_results_that_come_later(connect):
    pending = []
    server = ControlServer(GeventLoop(), lambda name, arguments, then: pending.append(then))
    sock = connect(server)
    sock.sendall(command("x") * (MAX_COMMANDS + 5))
    gevent.sleep(0.1)
    assert len(pending) == MAX_COMMANDS
    for _ in range(MAX_COMMANDS + 5):
        while not pending:  # at most TIMEOUT
            gevent.sleep(0.001)
        pending.pop(0)({})
    assert len(rest(sock)) == MAX_COMMANDS + 5
    turns()
    assert not server._operators


def test_what_is_no_command(connect, internal_errors_counted):
    server = ControlServer(GeventLoop(), lambda name, arguments, then: fail())
    one, other = connect(server), connect(server)
    one.sendall(b'{"command": 1}\n')
    assert list(rest(one)[0]) == ["error"]
    other.sendall(command("x"))
    assert rest(other) == [{"error": "KeyError('x')"}]
    assert internal_errors_counted() == 1


def test_an_operator_that_gets_no_result_is_disconnected(connect, internal_errors_counted, monkeypatch):
    monkeypatch.setattr("gmproxy.process.peer.Peer.send_message", lambda *arguments: fail())
    server = ControlServer(GeventLoop(), lambda name, arguments, then: then({}))
    sock = connect(server)
    sock.sendall(command("x"))
    assert sock.recv(100) == b""
    assert (internal_errors_counted(), list(server._operators)) == (1, [])


def test_a_connection_is_closed_although_its_channel_cannot_be(connect, internal_errors_counted, monkeypatch):
    monkeypatch.setattr("gmproxy.system.control_socket.Channel.close", lambda channel: fail())
    server = ControlServer(GeventLoop(), lambda name, arguments, then: then({}))
    sock = connect(server)
    (operator,) = server._operators
    operator.close()
    assert sock.recv(100) == b""
    assert (internal_errors_counted(), list(server._operators)) == (1, [])

"""Half-closed connections: each is kept until its server closes it, and no longer."""

import socket

import gevent
import pytest
from support.loop import wait_until
from support.timing import PATIENCE, TICK

from gmproxy.backend.half_closed import MAX_HALF_CLOSED, HalfClosedConnections


@pytest.fixture
def half_closed():
    made = HalfClosedConnections()
    yield made
    made.cut_all()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=MAX_HALF_CLOSED + 8) as made:
        yield made


def connection(listener):
    """(this end, the server's end)"""
    ours = socket.create_connection(listener.getsockname(), PATIENCE)
    ours.setblocking(False)
    theirs, _ = listener.accept()
    theirs.settimeout(PATIENCE)
    return ours, theirs


def test_it_is_kept_until_the_peer_ends_it(half_closed, listener):
    ours, theirs = connection(listener)
    ours.send(b"set k 0 0 1\r\nx\r\n")
    half_closed.add(ours)
    with theirs:
        assert theirs.recv(100) == b"set k 0 0 1\r\nx\r\n"
        assert theirs.recv(100) == b""
        theirs.send(b"STORED\r\n")  # a late reply to no request
        gevent.sleep(TICK)
        assert len(half_closed) == 1
    wait_until(lambda: len(half_closed) == 0)
    assert ours.fileno() == -1


def test_a_peer_that_resets_it(half_closed, listener):
    ours, theirs = connection(listener)
    ours.send(b"never read")
    half_closed.add(ours)
    theirs.close()
    wait_until(lambda: len(half_closed) == 0)
    assert ours.fileno() == -1


def test_one_that_is_broken_already_is_not_kept(half_closed, listener):
    ours, theirs = connection(listener)
    ours.close()
    half_closed.add(ours)
    assert len(half_closed) == 0
    theirs.close()


def test_no_longer(half_closed, listener):
    ours, theirs = connection(listener)
    half_closed.add(ours)
    half_closed.cut_all()
    assert len(half_closed) == 0
    assert ours.fileno() == -1
    with theirs, pytest.raises(OSError):
        theirs.send(b"STORED\r\n")


def test_beyond_the_bound_the_oldest_is_cut(half_closed, listener):
    pairs = [connection(listener) for _ in range(MAX_HALF_CLOSED + 1)]
    for ours, _ in pairs:
        half_closed.add(ours)
    assert len(half_closed) == MAX_HALF_CLOSED
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True] + [False] * MAX_HALF_CLOSED
    for _, theirs in pairs:
        theirs.close()
    wait_until(lambda: len(half_closed) == 0)

"""Connections that were given up: each is kept until its peer ends it, and no longer."""

import socket

import gevent
import pytest
from support.timing import PATIENCE, TICK

from gmproxy.backend.half_closed import MAX_LINGERING, HalfClosedConnections


@pytest.fixture
def lingering():
    made = HalfClosedConnections()
    yield made
    made.cut_all()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=MAX_LINGERING + 8) as made:
        yield made


def connection(listener):
    """(our end, the server's end)"""
    ours = socket.create_connection(listener.getsockname())
    ours.setblocking(False)
    theirs, _ = listener.accept()
    theirs.settimeout(PATIENCE)
    return ours, theirs


def until(predicate):
    """As support.timing.eventually, but the loop runs meanwhile."""
    with gevent.Timeout(PATIENCE):
        while not predicate():
            gevent.sleep(TICK / 10)


def test_it_is_kept_until_the_peer_ends_it(lingering, listener):
    ours, theirs = connection(listener)
    ours.send(b"set k 0 0 1\r\nx\r\n")
    lingering.add(ours)
    with theirs:
        assert theirs.recv(100) == b"set k 0 0 1\r\nx\r\n"
        assert theirs.recv(100) == b""
        theirs.send(b"STORED\r\n")  # a late answer is for nobody
        gevent.sleep(TICK)
        assert len(lingering) == 1
    until(lambda: len(lingering) == 0)
    assert ours.fileno() == -1


def test_a_peer_that_resets_it(lingering, listener):
    ours, theirs = connection(listener)
    ours.send(b"never read")
    lingering.add(ours)
    theirs.close()
    until(lambda: len(lingering) == 0)
    assert ours.fileno() == -1


def test_one_that_is_broken_already_is_not_kept(lingering, listener):
    ours, theirs = connection(listener)
    ours.close()
    lingering.add(ours)
    assert len(lingering) == 0
    theirs.close()


def test_no_longer(lingering, listener):
    ours, theirs = connection(listener)
    lingering.add(ours)
    lingering.cut_all()
    assert len(lingering) == 0
    assert ours.fileno() == -1
    with theirs, pytest.raises(OSError):
        theirs.send(b"STORED\r\n")


def test_beyond_the_bound_the_oldest_is_cut(lingering, listener):
    pairs = [connection(listener) for _ in range(MAX_LINGERING + 1)]
    for ours, _ in pairs:
        lingering.add(ours)
    assert len(lingering) == MAX_LINGERING
    assert [ours.fileno() == -1 for ours, _ in pairs] == [True] + [False] * MAX_LINGERING
    for _, theirs in pairs:
        theirs.close()
    until(lambda: len(lingering) == 0)

"""The set of clients' descriptors, in both builds of the module: the same behaviour."""

import os
import socket

import pytest
from support.builds import from_source, needs_both

from gmproxy.compiled import COMPILED
from gmproxy.transport import epoll

(pure,) = from_source("transport.epoll")
compiled = epoll if COMPILED else None


@pytest.fixture(params=["pure", pytest.param("compiled", marks=needs_both)])
def watched(request):
    made = {"pure": pure, "compiled": compiled}[request.param].Epoll()
    yield made
    made.close()


@pytest.fixture
def pairs():
    """pairs(n): n pairs of connected sockets."""
    made = []

    def make(count):
        ends = [socket.socketpair() for _ in range(count)]
        made.extend(ends)
        return ends

    yield make
    for ends in made:
        for end in ends:
            end.close()


def reported(watched):
    """{descriptor: True if its peer has closed the connection}"""
    watched.wait()
    return {watched.fd_at(index): watched.hung_up_at(index) for index in range(watched.count)}


def test_an_arrival_is_reported_once(watched, pairs):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    assert reported(watched) == {}
    theirs.send(b"x")
    assert reported(watched) == {ours.fileno(): False}
    assert reported(watched) == {}, "it is still unread, but nothing is new"
    theirs.send(b"y")
    assert reported(watched) == {ours.fileno(): False}


def test_what_arrived_before_is_reported(watched, pairs):
    ((ours, theirs),) = pairs(1)
    theirs.send(b"x")
    watched.watch(ours.fileno())
    assert reported(watched) == {ours.fileno(): False}


@pytest.mark.parametrize("leave", [lambda sock: sock.close(), lambda sock: sock.shutdown(socket.SHUT_WR)])
@pytest.mark.parametrize("sent", [b"", b"x"])
def test_an_end_is_told_from_an_arrival(watched, pairs, leave, sent):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    theirs.send(sent)
    leave(theirs)
    assert reported(watched) == {ours.fileno(): True}
    assert reported(watched) == {}


def test_an_end_after_an_arrival_is_reported_anew(watched, pairs):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    theirs.send(b"x")
    assert reported(watched) == {ours.fileno(): False}
    theirs.close()
    assert reported(watched) == {ours.fileno(): True}


def test_many_are_reported_in_several_turns(watched, pairs):
    ends = pairs(2 * epoll.MAX_EVENTS + 1)
    for ours, theirs in ends:
        watched.watch(ours.fileno())
        theirs.send(b"x")
    turns = [reported(watched) for _ in range(3)]
    assert [len(turn) for turn in turns] == [epoll.MAX_EVENTS, epoll.MAX_EVENTS, 1]
    assert set().union(*turns) == {ours.fileno() for ours, _ in ends}


def test_a_descriptor_that_was_closed_is_not_in_the_set(watched, pairs):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    theirs.send(b"x")
    ours.close()
    assert reported(watched) == {}


def test_what_is_ignored_is_reported_when_it_is_watched_again(watched, pairs):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    watched.ignore(ours.fileno())
    theirs.send(b"x")
    assert reported(watched) == {}
    watched.watch_again(ours.fileno())
    assert reported(watched) == {ours.fileno(): False}
    watched.ignore(ours.fileno())
    watched.watch_again(ours.fileno())
    assert reported(watched) == {ours.fileno(): False}, "it is still unread"


def test_only_what_is_watched_can_be_ignored(watched, pairs):
    ((ours, _),) = pairs(1)
    for call in watched.ignore, watched.watch_again:
        with pytest.raises(FileNotFoundError):
            call(ours.fileno())


def test_what_cannot_be_watched_is_refused(watched, pairs, tmp_path):
    ((ours, _),) = pairs(1)
    watched.watch(ours.fileno())
    with pytest.raises(FileExistsError):
        watched.watch(ours.fileno())
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError):
        watched.watch(file.fileno())


def test_it_is_readable_while_something_is_to_be_reported(watched, pairs):
    ((ours, theirs),) = pairs(1)
    watched.watch(ours.fileno())
    outer = type(watched)()
    outer.watch(watched.fileno())
    assert reported(outer) == {}
    theirs.send(b"x")
    assert reported(outer) == {watched.fileno(): False}
    outer.close()


def test_the_descriptor_is_closed_once(watched):
    fd = watched.fileno()
    assert not os.get_inheritable(fd)
    watched.close()
    watched.close()
    assert watched.fileno() == -1
    with pytest.raises(OSError):
        os.fstat(fd)

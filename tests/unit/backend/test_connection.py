"""When a server is late: a link over a socket pair, and the time as an argument."""

import socket

import gevent
import pytest

from gmproxy.backend import connection as module
from gmproxy.protocol import commands
from gmproxy.protocol import request as message

TIMEOUT = 1.0
NOW = 1000.0
LINE = b"get k\r\n"
FOUND = b"VALUE k 0 1\r\nx\r\nEND\r\n"


class Keeper(module.ConnectionOwner):
    """Notes what it is told."""

    label = "a:1"
    log_name = "server=a:1"
    meter = None
    half_closed = []

    def __init__(self):
        self.bytes_sent = self.bytes_received = 0
        self.replies = []
        self.failures = []

    def request_answered(self, request, found):
        self.replies.append(request.reply)

    def connection_closed(self, link):
        pass

    def connection_failed(self, link, reason, detail, lost, fault):
        self.failures.append((reason, lost))

    def request_failed(self, request, reason, started, may_repeat):
        pass


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def ends():
    """(ours, the server's)"""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    with pair[0], pair[1]:
        yield pair


@pytest.fixture
def link(keeper, ends):
    link = module.BackendConnection(keeper, 0, gevent.get_hub().loop, "text")
    link.attach(ends[0])
    yield link
    if not link.closed:
        link.close()


def ask(link, now=NOW, line=LINE):
    """A request that is under way since `now`."""
    link.submit(message.Request(commands.COMMANDS[b"get"], b"k", line))
    link.flush()
    link.check_late(now, TIMEOUT)


def test_a_server_without_an_answer_is_late(link, keeper):
    ask(link)
    link.check_late(NOW + TIMEOUT / 2, TIMEOUT)
    assert keeper.failures == []
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == [("timeout", 1)]


def test_an_answer_that_has_arrived_is_not_late(link, keeper, ends):
    """However long the loop has not come to it."""
    for _ in range(3):
        ask(link)
    ends[1].send(FOUND * 3)
    link.check_late(NOW + 100, TIMEOUT)
    assert (keeper.failures, keeper.replies) == ([], [FOUND] * 3)


def test_one_answer_of_two(link, keeper, ends):
    """What it owes longest is what counts."""
    ask(link)
    ask(link, NOW + TIMEOUT / 2)
    ends[1].send(FOUND)
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == []
    link.check_late(NOW + TIMEOUT * 2, TIMEOUT)
    assert (keeper.failures, keeper.replies) == ([("timeout", 1)], [FOUND])


def test_part_of_an_answer_is_late(link, keeper, ends):
    ask(link)
    ends[1].send(FOUND[:-1])
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == [("timeout", 1)]


def test_an_end_that_has_arrived_is_told_as_such(link, keeper, ends):
    ask(link)
    ends[1].shutdown(socket.SHUT_WR)
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == [("closed", 1)]


def test_an_answer_that_arrives_faster_than_it_is_read_is_not_late(link, keeper, ends, monkeypatch):
    """Nobody knows yet how much of it is here; at the next look, nothing more is."""
    monkeypatch.setattr(module, "LATE_READS", 1)
    ask(link)
    ends[1].send(FOUND[:-1])
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == []
    link.check_late(NOW + TIMEOUT, TIMEOUT)
    assert keeper.failures == [("timeout", 1)]


def test_idle_is_counted_from_the_first_look(link, keeper):
    """By one clock, however the link was opened."""
    link.check_idle(NOW, 10)
    link.check_idle(NOW + 9, 10)
    assert not link.closed
    link.check_idle(NOW + 10, 10)
    assert link.closed


def test_a_link_that_is_being_opened_is_not_idle(keeper):
    """As by preconnect, when nobody has asked anything yet."""
    opening = module.BackendConnection(keeper, 0, gevent.get_hub().loop, "text")
    opening.check_idle(NOW, 10)
    assert not opening.closed
    opening.check_idle(NOW + 10, 10)
    assert opening.closed

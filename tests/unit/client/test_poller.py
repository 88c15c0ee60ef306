"""Clients without a session, which are watched together."""

import os
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from support.loop import wait_until

from gmproxy.client.idle import IdleClients
from gmproxy.client.poller import ClientPoller
from gmproxy.transport.epoll import MAX_EVENTS

READ = 1  # the event that a watcher of the loop waits for
TEXT, BINARY = (1, True, False), (2, False, False)


class RecordingSessions:
    """Stands for the sessions of a pool, as the poller uses them. `woken` records the calls."""

    def __init__(self):
        self.woken = []

    def wake(self, fd, hung_up, idle):
        self.woken.append((fd, hung_up, idle.state))


@pytest.fixture
def sessions():
    return RecordingSessions()


@pytest.fixture
def poller():
    return ClientPoller()


@pytest.fixture
def pairs():
    """pairs(n): n sockets, and the descriptors of their other ends."""
    made = []

    def make(count):
        ends = [socket.socketpair() for _ in range(count)]
        made.extend(ends)
        return [(ours, theirs.fileno()) for ours, theirs in ends]

    yield make
    for ends in made:
        for end in ends:
            end.close()


def looked():
    """Wait until the loop has handled the events of all sockets that existed at the time of the call."""
    one, other = socket.socketpair()
    with one, other:
        seen = []
        watcher = gevent.get_hub().loop.io(other.fileno(), READ)
        watcher.start(seen.append, True)
        one.send(b"x")
        wait_until(lambda: len(seen) >= 2)
        watcher.stop()
        watcher.close()


def test_who_speaks_or_hangs_up_is_woken_once(poller, sessions, pairs):
    (speaks, one), (leaves, two), (silent, three) = pairs(3)
    for fd, state in (one, TEXT), (two, BINARY), (three, TEXT):
        poller.watch(fd, IdleClients(sessions, state, False))
    speaks.send(b"x")
    leaves.close()
    looked()
    assert sorted(sessions.woken) == sorted([(one, False, TEXT), (two, True, BINARY)])
    looked()
    assert len(sessions.woken) == 2, "nothing was taken from them, and nothing more has come"
    assert os.read(one, 10) == b"x"


def test_all_are_woken_however_many(poller, sessions, pairs):
    ends = pairs(3 * MAX_EVENTS + 1)
    idle = IdleClients(sessions, TEXT, False)
    for _, fd in ends:
        poller.watch(fd, idle)
    for speaks, _ in ends:
        speaks.send(b"x")
    wait_until(lambda: len(sessions.woken) >= len(ends))
    assert sorted(fd for fd, *_ in sessions.woken) == sorted(fd for _, fd in ends)


def test_another_handler_hears_of_the_next_arrival(poller, sessions, pairs):
    ((speaks, fd),) = pairs(1)
    poller.watch(fd, IdleClients(sessions, TEXT, False))
    poller.replace(fd, IdleClients(sessions, BINARY, False))
    speaks.send(b"x")
    looked()
    assert sessions.woken == [(fd, False, BINARY)]


def test_who_is_forgotten_is_not_woken(poller, sessions, pairs):
    ((speaks, fd),) = pairs(1)
    poller.watch(fd, IdleClients(sessions, TEXT, False))
    poller.forget(fd)
    speaks.send(b"x")
    looked()
    assert sessions.woken == []
    poller.forget(10**6)  # this descriptor was never watched


def test_the_idle_clients_of_a_pool(poller, sessions, pairs):
    ends = pairs(4)
    idle, others = IdleClients(sessions, TEXT, False), IdleClients(RecordingSessions(), TEXT, False)
    for (_, fd), handler in zip(ends, (idle, others, idle, idle)):
        poller.watch(fd, handler)
    poller.forget(ends[3][1])
    assert sorted(poller.idle_clients(sessions), key=lambda client: client[0]) == sorted(
        [(ends[0][1], idle), (ends[2][1], idle)], key=lambda client: client[0]
    )


def test_a_client_that_cannot_be_woken_costs_nobody_else(poller, pairs, internal_errors_counted):
    woken = []

    def wake(fd, hung_up, idle):
        woken.append(fd)
        if len(woken) == 1:
            raise RuntimeError("no session")

    ends = pairs(3)
    idle = IdleClients(SimpleNamespace(wake=wake), TEXT, False)
    for _, fd in ends:
        poller.watch(fd, idle)
    for speaks, _ in ends:
        speaks.send(b"x")
    looked()
    assert sorted(woken) == sorted(fd for _, fd in ends)
    assert internal_errors_counted() == 1


def test_who_cannot_be_watched_is_not_here(poller, sessions, pairs):
    ((_, fd),) = pairs(1)
    first = IdleClients(sessions, TEXT, False)
    poller.watch(fd, first)
    with pytest.raises(OSError):
        poller.watch(fd, IdleClients(sessions, BINARY, False))
    assert poller.idle_clients(sessions) == [(fd, first)]

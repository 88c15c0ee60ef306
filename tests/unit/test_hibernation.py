"""Descriptors that are watched together."""

import os

import gevent
import pytest
from gevent import socket

from gmproxy import internal_errors
from gmproxy.client.idle import MAX_WOKEN_AT_ONCE, IdleClients

TEXT, BINARY = (1, True), (2, False)


@pytest.fixture
def woken():
    return []


@pytest.fixture
def hibernation(woken):
    made = IdleClients(lambda *facts: woken.append(facts))
    yield made
    made.close()


@pytest.fixture
def pairs():
    """pairs(n): so many sockets, and the descriptors of their other ends."""
    made = []

    def make(count):
        ends = [socket.socketpair() for _ in range(count)]
        made.extend(ends)
        return [(ours, theirs.detach()) for ours, theirs in ends]

    yield make
    for ours, _ in made:
        ours.close()


def soon():
    gevent.sleep(0.1)


def test_who_speaks_or_hangs_up_is_woken_once(hibernation, woken, pairs):
    (speaks, one), (leaves, two), (silent, three) = pairs(3)
    for fd, notes in (one, TEXT), (two, BINARY), (three, TEXT):
        hibernation.add(fd, notes, False)
    assert len(hibernation) == 3
    speaks.send(b"x")
    leaves.close()
    soon()
    assert sorted(woken) == sorted([(one, TEXT, False), (two, BINARY, False)])
    assert len(hibernation) == 1
    speaks.send(b"y")
    soon()
    assert len(woken) == 2
    assert os.read(one, 10) == b"xy", "nothing was taken from it"
    os.close(one)
    os.close(two)


def test_who_spoke_before_is_woken_at_once(hibernation, woken, pairs):
    ((speaks, fd),) = pairs(1)
    speaks.send(b"x")
    hibernation.add(fd, TEXT, True)
    soon()
    assert woken == [(fd, TEXT, True)]
    os.close(fd)


def test_a_descriptor_that_was_here_before_may_come_again(hibernation, woken, pairs):
    ((speaks, fd),) = pairs(1)
    for notes in TEXT, BINARY, TEXT:
        hibernation.add(fd, notes, False)
        speaks.send(b"x")
        soon()
        os.read(fd, 10)
    assert woken == [(fd, TEXT, False), (fd, BINARY, False), (fd, TEXT, False)]
    os.close(fd)


def test_all_are_woken_however_many(hibernation, woken, pairs):
    ends = pairs(3 * MAX_WOKEN_AT_ONCE + 1)
    for _, fd in ends:
        hibernation.add(fd, TEXT, False)
    for speaks, _ in ends:
        speaks.send(b"x")
    soon()
    assert sorted(fd for fd, *_ in woken) == sorted(fd for _, fd in ends)
    for _, fd in ends:
        os.close(fd)


def test_who_is_here_can_be_told_to_leave_softly(hibernation, woken, pairs):
    (one, first), (two, second), (three, third) = pairs(3)
    hibernation.add(first, TEXT, False)
    hibernation.add(second, BINARY, True)
    hibernation.drain_waiting()
    hibernation.drain_waiting()
    hibernation.add(third, TEXT, False)
    assert len(hibernation) == 3
    for speaks in one, two, three:
        speaks.send(b"x")
    soon()
    assert sorted(woken) == sorted([(first, TEXT, True), (second, BINARY, True), (third, TEXT, False)])
    for fd in first, second, third:
        os.close(fd)


def test_let_go_closes_the_silent_and_wakes_the_others(hibernation, woken, pairs):
    (speaks, one), (silent, two) = pairs(2)
    for fd in one, two:
        hibernation.add(fd, TEXT, False)
    speaks.send(b"x")
    hibernation.close_all()
    assert woken == [(one, TEXT, False)]
    assert len(hibernation) == 0
    assert silent.recv(10) == b""
    os.close(one)


def test_a_client_that_cannot_be_woken_costs_nobody_else(woken, pairs):
    """Whoever is woken owns the descriptor, also if that fails."""

    def wake(*facts):
        woken.append(facts)
        if len(woken) == 1:
            raise RuntimeError("no session")

    internal_errors.forget()
    hibernation = IdleClients(wake)
    ends = pairs(3)
    for _, fd in ends:
        hibernation.add(fd, TEXT, False)
    for speaks, _ in ends:
        speaks.send(b"x")
    soon()
    assert sorted(fd for fd, *_ in woken) == sorted(fd for _, fd in ends)
    assert len(hibernation) == 0
    assert internal_errors.count() == 1
    internal_errors.forget()
    for _, fd in ends:
        os.close(fd)
    hibernation.close()


def test_who_cannot_be_laid_down_is_not_here(hibernation, woken, pairs):
    ((speaks, fd),) = pairs(1)
    hibernation.add(fd, TEXT, False)
    with pytest.raises(OSError):
        hibernation.add(fd, TEXT, False)  # it is watched already
    assert len(hibernation) == 1
    speaks.send(b"x")
    soon()
    assert len(woken) == 1 and len(hibernation) == 0
    os.close(fd)


def test_a_descriptor_that_somebody_else_closed_is_forgotten(hibernation, woken, pairs):
    internal_errors.forget()
    (_, one), (speaks, two) = pairs(2)
    for fd in one, two:
        hibernation.add(fd, TEXT, False)
    os.close(one)
    speaks.send(b"x")
    soon()
    assert woken == [(two, TEXT, False)]
    hibernation.close_all()
    assert len(hibernation) == 0
    assert internal_errors.count() == 2, "it was not in the set, and could not be closed"
    internal_errors.forget()
    os.close(two)

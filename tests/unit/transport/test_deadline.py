"""Waits with a deadline."""

import os
import socket

import gevent
import pytest
from gevent.event import Event
from support.clock import ManualClock
from support.timing import TICK

from gmproxy.system.clock import RunningClock
from gmproxy.transport import deadline as waits
from gmproxy.transport.deadline import Deadline, receive, send_all


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def time(monkeypatch):
    """The clock of the waits, moved by the test: it stands still, as in a pause."""
    time = ManualClock()
    monkeypatch.setattr(waits, "running", RunningClock(time))
    return time


def test_time_over(pair):
    with pytest.raises(TimeoutError):
        Deadline(TICK).wait_readable(pair[0].fileno())


def test_what_is_ready_is_in_time(pair):
    """However late the check is."""
    pair[1].send(b"x")
    Deadline(0).wait_readable(pair[0].fileno())
    Deadline(0).wait_writable(pair[0].fileno())


def test_in_a_pause_the_deadline_does_not_come(pair, time):
    """The timer of the loop fires several times: the counted time is not over."""
    deadline = Deadline(0.01)
    waiting = gevent.spawn(deadline.wait_readable, pair[0].fileno())
    gevent.sleep(0.1)
    assert not waiting.ready()
    pair[1].send(b"x")
    waiting.get(timeout=10)


def test_after_a_pause_it_does(pair, time):
    waiting = gevent.spawn(Deadline(0.01).wait_readable, pair[0].fileno())
    gevent.sleep(0.05)
    time.now += 1
    with pytest.raises(TimeoutError):
        waiting.get(timeout=10)


def test_shares(time):
    deadline = Deadline(0.9)
    assert deadline.share(3).left() == pytest.approx(0.3)
    time.now += 0.6
    assert deadline.share(2).left() == pytest.approx(0.15)
    time.now += 1
    assert deadline.left() == deadline.share(2).left() == 0.0


def test_an_event():
    event = Event()
    gevent.spawn_later(0.01, event.set)
    Deadline(10).wait_for(event)
    with pytest.raises(TimeoutError):
        Deadline(0.01).wait_for(Event())


def test_a_timeout_of_somebody_else_passes(pair):
    """The wait does not handle it as its own timeout."""
    for wait in (
        lambda: Deadline(10).wait_readable(pair[0].fileno()),
        lambda: Deadline(10).wait_for(Event()),
        lambda: Deadline(10).sleep(10),
    ):
        foreign = gevent.Timeout(TICK)
        with pytest.raises(gevent.Timeout) as caught, foreign:
            wait()
        assert caught.value is foreign


def test_much_is_sent_and_received(pair):
    ours, theirs = pair
    theirs.setblocking(False)
    data = os.urandom(1 << 20)
    sending = gevent.spawn(send_all, ours, data, Deadline(10))
    got = bytearray()
    while len(got) < len(data):
        got += receive(theirs, 1 << 16, Deadline(10))
    sending.get(timeout=10)
    assert got == data
    ours.close()
    assert receive(theirs, 1, Deadline(10)) == b""


def test_who_sends_a_byte_now_and_then_does_not_hold_us(pair):
    ours, theirs = pair
    dripping = gevent.spawn(_drip, theirs)
    deadline = Deadline(TICK)
    with pytest.raises(TimeoutError):
        while receive(ours, 1, deadline):
            pass
    dripping.kill()


def _drip(sock):
    while True:
        sock.send(b"x")
        gevent.sleep(0.0005)


def test_who_takes_nothing_is_noticed(pair):
    with pytest.raises(TimeoutError):
        send_all(pair[0], bytes(1 << 24), Deadline(TICK))

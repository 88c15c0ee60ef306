"""The master's event loop: readable sockets and timers."""

import os
import socket

import pytest
from support.timing import PATIENCE

import gmproxy.system.select_loop
from gmproxy.system.select_loop import SelectLoop


@pytest.fixture
def loop():
    made = SelectLoop()
    yield made
    made.close()


@pytest.fixture
def pipes():
    """Two pipes, as (reading end, writing end)."""
    made = [os.pipe(), os.pipe()]
    yield made
    for pipe in made:
        for descriptor in pipe:
            try:
                os.close(descriptor)
            except OSError:
                pass


def test_what_comes(loop, pipes):
    (reading, writing), _ = pipes
    got = []
    loop.add_reader(reading, lambda: got.append(os.read(reading, 10)))
    os.write(writing, b"here")
    loop.run_once()
    assert got == [b"here"]
    loop.remove(reading)
    os.write(writing, b"again")
    loop.call_later(0, lambda: got.append("due"))
    loop.run_once()
    assert got == [b"here", "due"]


def test_who_is_forgotten_by_another_is_not_called(loop, pipes):
    (one, to_one), (other, to_other) = pipes
    called = []

    def forget_both():
        called.append(1)
        loop.remove(one)
        loop.remove(other)

    for reading, writing in ((one, to_one), (other, to_other)):
        loop.add_reader(reading, forget_both)
        os.write(writing, b"x")
    loop.run_once()
    assert called == [1]


def test_to_forget_twice_or_what_is_closed_is_no_fault(loop, pipes):
    (reading, _), _ = pipes
    loop.add_reader(reading, lambda: None)
    os.close(reading)
    loop.remove(reading)
    loop.remove(reading)
    assert loop.sources() == []


def test_what_is_due_comes_in_time_and_once(loop):
    called = []
    loop.call_later(0.001, lambda: called.append("soon"))
    loop.call_later(3600, lambda: called.append("late"))
    while not called:
        loop.run_once()
    assert called == ["soon"]


def test_what_is_cancelled_does_not_come(loop):
    called = []
    timer = loop.call_later(0, lambda: called.append("no"))
    loop.call_later(0, lambda: called.append("yes"))
    loop.cancel(timer)
    loop.cancel(timer)
    loop.run_once()
    assert called == ["yes"]


def test_one_that_cancels_another(loop):
    called = []
    loop.call_later(0, lambda: loop.cancel(other))
    other = loop.call_later(0, lambda: called.append("no"))
    loop.run_once()
    assert called == []


def test_again_and_again(loop):
    called, late = [], []
    loop.call_every(0.001, lambda: called.append(1))
    loop.call_later(PATIENCE, lambda: late.append(1))
    while len(called) < 3 and not late:
        loop.run_once()
    assert len(called) == 3


# -- callbacks that raise


def fail():
    raise KeyError("x")


def test_a_callback_that_raises_costs_nobody_else_anything(loop, pipes, internal_errors_counted):
    called = []
    for (reading, writing), call in zip(pipes, (fail, lambda: called.append("read"))):
        loop.add_reader(reading, call, lambda: called.append("failed"))
        os.write(writing, b"x")
    loop.call_later(0, fail)
    loop.call_later(0, lambda: called.append("due"))
    loop.run_once()
    assert sorted(called) == ["due", "failed", "read"]
    assert internal_errors_counted() == 2


def test_what_is_to_be_done_then_may_raise_too(loop, pipes, internal_errors_counted):
    (reading, writing), _ = pipes
    loop.add_reader(reading, fail, fail)
    os.write(writing, b"x")
    loop.run_once()
    assert internal_errors_counted() == 2


def test_one_that_raises_is_paused_if_nobody_says_what_to_do(loop, pipes, internal_errors_counted, monkeypatch):
    monkeypatch.setattr(gmproxy.system.select_loop, "PAUSE", 0.001)
    (reading, writing), _ = pipes
    called = []

    def fail_once():
        called.append(1)
        if len(called) == 1:
            fail()

    loop.add_reader(reading, fail_once)
    os.write(writing, b"x")
    loop.run_once()
    assert (called, loop.sources(), internal_errors_counted()) == ([1], [], 1)
    while len(called) < 2:
        loop.run_once()
    assert loop.sources() == [reading]


def test_what_is_closed_in_a_pause_is_not_watched_again(loop, monkeypatch):
    monkeypatch.setattr(gmproxy.system.select_loop, "PAUSE", 0.0)
    one, other = socket.socketpair()
    loop.add_reader(one, lambda: None)
    loop.pause(one)
    one.close()
    other.close()
    loop.run_once()
    assert loop.sources() == []


def test_again_and_again_also_if_it_raises(loop, internal_errors_counted):
    loop.call_every(0.001, fail)
    while internal_errors_counted() < 3:
        loop.run_once()


def test_to_read_and_to_write_are_watched_apart(loop):
    one, other = socket.socketpair()
    with one, other:
        called = []
        loop.add_reader(one, lambda: called.append("read"))
        loop.add_writer(one, lambda: called.append("written"))
        other.send(b"x")
        loop.run_once()
        assert called == ["written", "read"]
        loop.remove_reader(one)
        loop.run_once()
        assert called == ["written", "read", "written"]
        loop.remove_writer(one)
        assert loop.sources() == []
        loop.remove_writer(one)

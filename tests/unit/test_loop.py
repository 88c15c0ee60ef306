"""The master's loop: what came and what is due."""

import os
import socket

import pytest

import gmproxy.system.select_loop
from gmproxy import internal_errors
from gmproxy.system.select_loop import Loop


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipes():
    """Two pipes, as (reading, writing)."""
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
    loop.watch(reading, lambda: got.append(os.read(reading, 10)))
    os.write(writing, b"here")
    loop.turn()
    assert got == [b"here"]
    loop.forget(reading)
    os.write(writing, b"again")
    loop.after(0, lambda: got.append("due"))
    loop.turn()
    assert got == [b"here", "due"]


def test_who_is_forgotten_by_another_is_not_called(loop, pipes):
    (one, to_one), (other, to_other) = pipes
    called = []

    def forget_both():
        called.append(1)
        loop.forget(one)
        loop.forget(other)

    for reading, writing in ((one, to_one), (other, to_other)):
        loop.watch(reading, forget_both)
        os.write(writing, b"x")
    loop.turn()
    assert called == [1]


def test_to_forget_twice_or_what_is_closed_is_no_fault(loop, pipes):
    (reading, _), _ = pipes
    loop.watch(reading, lambda: None)
    os.close(reading)
    loop.forget(reading)
    loop.forget(reading)
    assert loop.sources() == []


def test_what_is_due_comes_in_time_and_once(loop):
    called = []
    loop.after(0.001, lambda: called.append("soon"))
    loop.after(3600, lambda: called.append("late"))
    while not called:
        loop.turn()
    assert called == ["soon"]


def test_what_is_cancelled_does_not_come(loop):
    called = []
    timer = loop.after(0, lambda: called.append("no"))
    loop.after(0, lambda: called.append("yes"))
    loop.cancel(timer)
    loop.cancel(timer)
    loop.turn()
    assert called == ["yes"]


def test_one_that_cancels_another(loop):
    called = []
    loop.after(0, lambda: loop.cancel(other))
    other = loop.after(0, lambda: called.append("no"))
    loop.turn()
    assert called == []


def test_again_and_again(loop):
    called = []
    loop.every(0.001, lambda: called.append(1))
    while len(called) < 3:
        loop.turn()


# -- what it calls raises


@pytest.fixture
def errors():
    """Call it for the number of internal errors since the test began."""
    internal_errors.forget()
    yield internal_errors.count
    internal_errors.forget()


def fail():
    raise KeyError("x")


def test_a_callback_that_raises_costs_nobody_else_anything(loop, pipes, errors):
    called = []
    for (reading, writing), call in zip(pipes, (fail, lambda: called.append("read"))):
        loop.watch(reading, call, lambda: called.append("failed"))
        os.write(writing, b"x")
    loop.after(0, fail)
    loop.after(0, lambda: called.append("due"))
    loop.turn()
    assert sorted(called) == ["due", "failed", "read"]
    assert errors() == 2


def test_what_is_to_be_done_then_may_raise_too(loop, pipes, errors):
    (reading, writing), _ = pipes
    loop.watch(reading, fail, fail)
    os.write(writing, b"x")
    loop.turn()
    assert errors() == 2


def test_one_that_raises_is_paused_if_nobody_says_what_to_do(loop, pipes, errors, monkeypatch):
    monkeypatch.setattr(gmproxy.system.select_loop, "PAUSE", 0.001)
    (reading, writing), _ = pipes
    called = []

    def fail_once():
        called.append(1)
        if len(called) == 1:
            fail()

    loop.watch(reading, fail_once)
    os.write(writing, b"x")
    loop.turn()
    assert (called, loop.sources(), errors()) == ([1], [], 1)
    while len(called) < 2:
        loop.turn()
    assert loop.sources() == [reading]


def test_what_is_closed_in_a_pause_is_not_watched_again(loop, monkeypatch):
    monkeypatch.setattr(gmproxy.system.select_loop, "PAUSE", 0.0)
    one, other = socket.socketpair()
    loop.watch(one, lambda: None)
    loop.pause(one)
    one.close()
    other.close()
    loop.turn()
    assert loop.sources() == []


def test_again_and_again_also_if_it_raises(loop, errors):
    loop.every(0.001, fail)
    while errors() < 3:
        loop.turn()


def test_to_read_and_to_write_are_watched_apart(loop):
    one, other = socket.socketpair()
    with one, other:
        called = []
        loop.watch(one, lambda: called.append("read"))
        loop.watch_writing(one, lambda: called.append("written"))
        other.send(b"x")
        loop.turn()
        assert called == ["written", "read"]
        loop.forget_reading(one)
        loop.turn()
        assert called == ["written", "read", "written"]
        loop.forget_writing(one)
        assert loop.sources() == []
        loop.forget_writing(one)

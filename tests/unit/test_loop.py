"""The master's loop: what came and what is due."""

import os

import pytest

from gmproxy.loop import Loop


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

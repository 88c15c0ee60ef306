"""Ejections and restorations that two workers decide and follow, in every order: nobody misses one, and all agree in the end."""

import itertools
from types import SimpleNamespace

import pytest

from gmproxy.shared import ejections as ejections_module
from gmproxy.shared.ejections import Ejections, Followers
from gmproxy.shared.memory import SharedMemory


@pytest.fixture
def memory():
    return SharedMemory.create()


class Worker:
    """As gmproxy.routing.router.Router and Backend do it. `ejected`: what this worker takes the server for."""

    def __init__(self, memory, column, row=0):
        self.memory = memory
        self.ejections = Ejections(memory, row, column)
        self.followed = 0
        self.ejected = False
        self.heard = []

    def decide(self, ejected):
        if ejected != self.ejected:
            self.ejected = ejected
            self.ejections.publish(ejected)

    def follow(self):
        if self.memory.stamp[0] != self.followed:
            self.followed = self.memory.stamp[0]
            ejected = self.ejections.follow()
            if ejected is not None:
                self.heard.append(ejected)
                self.ejected = ejected


EVENTS = [(number, event) for number in range(2) for event in ("eject", "restore", "follow")]


@pytest.mark.parametrize("length", range(1, 6))
def test_in_every_order_all_agree_after_they_have_followed(length):
    memory = SharedMemory.create()
    row = 0
    for order in itertools.product(EVENTS, repeat=length):
        row = (row + 1) % 4096  # without a change yet: nothing else of the memory matters
        memory.epochs[row] = 0
        workers = [Worker(memory, column, row) for column in range(2)]
        for number, event in order:
            worker = workers[number]
            worker.follow() if event == "follow" else worker.decide(event == "eject")
        for worker in workers:
            worker.follow()
        assert [worker.ejected for worker in workers] == [workers[0].ejections.is_ejected()] * 2, order


def test_the_last_decision_holds(memory):
    one, other = Worker(memory, 0), Worker(memory, 1)
    one.decide(True)
    other.follow()
    assert other.ejected and other.heard == [True]
    other.decide(False)
    one.follow()
    assert not one.ejected and one.heard == [False]
    one.follow()
    other.follow()
    assert one.heard == [False] and other.heard == [True], "each is heard once, and not by the worker that has decided it"


def test_what_changed_back_before_anybody_looked(memory):
    one, other = Worker(memory, 0), Worker(memory, 1)
    one.decide(True)
    one.decide(False)
    other.follow()
    assert not other.ejected and not other.ejections.is_ejected()


def test_two_decide_the_same_at_once(memory):
    one, other = Worker(memory, 0), Worker(memory, 1)
    one.decide(True)
    other.decide(True)
    assert memory.epochs[0] == 1
    one.follow()
    other.follow()
    assert one.heard == other.heard == [] and one.ejected and other.ejected


def test_a_worker_that_starts_later_hears_of_it(memory):
    one = Worker(memory, 0)
    one.decide(True)
    late = Worker(memory, 1)
    late.follow()
    assert late.ejected
    one.decide(False)
    assert not Worker(memory, 2).ejections.is_ejected()


class Interrupted:
    """Numbers in memory at whose access number `at` another process does `then`."""

    def __init__(self, numbers, clock, at, then):
        self.numbers, self.clock, self.at, self.then = numbers, clock, at, then

    def _access(self):
        if next(self.clock) == self.at:
            self.then()

    def __getitem__(self, index):
        self._access()
        return self.numbers[index]

    def __setitem__(self, index, value):
        self._access()
        self.numbers[index] = value


@pytest.mark.parametrize("before, mine, theirs", list(itertools.product([False, True], repeat=3)))
def test_a_decision_between_any_two_steps_of_another(before, mine, theirs):
    """Whatever a second worker decides between two accesses of the first to the memory, a third one follows, and all agree."""
    for at in range(4):
        memory = SharedMemory.create()
        workers = [Worker(memory, column) for column in range(3)]
        if before:
            workers[2].decide(True)
            for worker in workers:
                worker.follow()
        clock = itertools.count()

        def decide():
            workers[1].decide(theirs)
            workers[2].follow()

        interrupted = SimpleNamespace(
            epochs=Interrupted(memory.epochs, clock, at, decide), stamp=Interrupted(memory.stamp, clock, at, decide)
        )
        workers[0].ejections._memory = interrupted
        workers[0].decide(mine)
        workers[0].ejections._memory = memory
        for worker in workers:
            worker.follow()
        assert [worker.ejected for worker in workers] == [bool(memory.epochs[0] & 1)] * 3, at


def test_the_stamp_changes_with_each_epoch(memory, monkeypatch):
    """Of any server, by any worker, also within a nanosecond."""
    monkeypatch.setattr(ejections_module, "monotonic_ns", lambda: 5 << 40)
    stamps = [memory.stamp[0]]
    for column, row in ((0, 0), (1, 1), (2, 2)):
        Ejections(memory, row, column).publish(True)
        stamps.append(memory.stamp[0])
    Ejections(memory, 0, 3).publish(True)
    assert memory.stamp[0] == stamps[-1], "nothing has changed"
    assert len(set(stamps)) == 4
    assert all(0 <= stamp < 1 << 64 for stamp in stamps)


def test_servers_are_ejected_one_by_one(memory):
    one, other = Ejections(memory, 0, 0), Ejections(memory, 1, 0)
    one.publish(True)
    assert one.is_ejected() and not other.is_ejected()
    assert other.follow() is None


def test_an_epoch_that_overflows(memory):
    memory.epochs[0] = (1 << 32) - 1
    one, other = Worker(memory, 0), Worker(memory, 1)
    memory.stamp[0] = 1
    one.follow()
    other.follow()
    assert one.ejected and other.ejected
    one.decide(False)
    other.follow()
    assert memory.epochs[0] == 0 and not other.ejected


# -- who has followed


def test_all_that_have_something_to_delete_must_have_followed(memory):
    """The others have no keys on stand-in servers."""
    memory.use(2)
    row = memory.row_of("shop pool")
    one, two, three = (Followers(memory, row, column) for column in range(3))
    states = memory.states_of(memory.row_of("a server"))
    assert one.all_have_followed(states)
    Ejections(memory, 0, 0).publish(True)
    assert one.all_have_followed(states), "nobody else has keys there"
    states[0] = states[1] = 1
    assert not one.all_have_followed(states)
    two.publish(memory.stamp[0])
    assert one.all_have_followed(states) and not two.all_have_followed(states) and not three.all_have_followed(states)
    one.publish(memory.stamp[0])
    assert three.all_have_followed(states)
    Ejections(memory, 5, 2).publish(True)
    assert not one.all_have_followed(states), "an ejection of any server"
    states[1] = 0
    assert one.all_have_followed(states)


def test_a_worker_that_has_died_has_not_followed(memory):
    """Until its column is freed."""
    (dead, mine) = memory.claim(2)
    row, server = memory.row_of("shop pool"), memory.row_of("a server")
    memory.states_of(server)[dead] = 1
    Ejections(memory, 0, mine).publish(True)
    follower = Followers(memory, row, mine)
    assert not follower.all_have_followed(memory.states_of(server))
    memory.free(dead)
    assert follower.all_have_followed(memory.states_of(server))


def test_each_pool_has_followers_of_its_own(memory):
    Ejections(memory, 0, 0).publish(True)
    memory.use(1)
    shop, blog = (Followers(memory, memory.row_of(f"{pool} pool"), 1) for pool in ("shop", "blog"))
    shop.publish(memory.stamp[0])
    states = memoryview(bytearray([1, 1]))
    assert Followers(memory, memory.row_of("shop pool"), 0).all_have_followed(states)
    assert not Followers(memory, memory.row_of("blog pool"), 0).all_have_followed(states)
    blog.publish(memory.stamp[0])
    assert Followers(memory, memory.row_of("blog pool"), 0).all_have_followed(states)

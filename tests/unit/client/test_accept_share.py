"""When a worker leaves the connections that wait to the other workers."""

from types import SimpleNamespace

import pytest

from gmproxy.client.accept_share import ACCEPTED_WITH_OTHERS, FULLER_PAUSE, LEFT_TO_OTHERS, SPARE_PAUSE, WINDOW, AcceptShare
from gmproxy.process.client_counts import ClientCounts
from gmproxy.system.descriptors import ACCEPTED_AT_ONCE


class Worker:
    """One of several workers with a listening socket of the pool `p`."""

    def __init__(self, number, counts, room=1000):
        self.context = SimpleNamespace(
            number=number, clients=0, client_counts=counts, room=lambda: room, others_have_room=lambda more: True
        )
        self.share = AcceptShare(self.context)
        self.counts = counts
        self.number = number

    def have(self, clients):
        self.context.clients = clients
        self.counts.set_clients(self.number, "p", clients)

    def accept(self, count):
        """Accept `count` clients at once, which stay."""
        self.have(self.context.clients + count)
        self.share.accepted(count)

    def serve(self, count):
        """Accept `count` clients at once, which disconnect."""
        self.share.accepted(count)


@pytest.fixture
def workers():
    counts = ClientCounts(2)
    counts.assign_rows(["p"])
    return [Worker(number, counts) for number in range(2)]


def serve(*workers):
    """Each of `workers` accepts as many clients as a window has, which disconnect."""
    for _ in range(WINDOW // ACCEPTED_WITH_OTHERS):
        for worker in workers:
            worker.serve(ACCEPTED_WITH_OTHERS)


def make_spare(one, other):
    """Make `one` leave the clients to `other`."""
    serve(one)
    one.share.pause()
    serve(one)
    serve(other)
    serve(other)
    assert one.share.pause() == SPARE_PAUSE


def test_who_has_most_clients_that_stay_lets_the_others_go_first(workers):
    one, other = workers
    assert one.share.pause() == 0
    one.accept(4)
    assert one.share.pause() == FULLER_PAUSE
    one.share.resume()
    other.accept(4)
    other.accept(4)
    assert one.share.pause() == 0


def test_after_that_it_takes_a_window(workers):
    one, _ = workers
    one.accept(4)
    one.share.pause()
    one.share.resume()
    for _ in range(WINDOW // 4):
        assert one.share.pause() == 0
        one.accept(4)
    assert one.share.pause() == FULLER_PAUSE


def test_it_does_not_while_the_others_do(workers):
    one, other = workers
    other.accept(4)
    assert other.share.pause() == FULLER_PAUSE
    one.accept(20)
    assert one.share.pause() == 0
    other.share.resume()
    assert one.share.pause() == FULLER_PAUSE


def test_a_worker_that_died_while_it_stood_back_is_not_counted_as_one_that_does(workers):
    one, other = workers
    other.accept(4)
    other.share.pause()
    one.counts.clear_worker(1)
    one.accept(20)
    assert one.share.pause() == FULLER_PAUSE


def test_clients_that_leave_are_served_by_the_worker_that_takes_more(workers):
    one, other = workers
    serve(one, other)
    assert one.share.pause() == 0, "as many as the other"
    serve(one)
    serve(other)
    serve(other)
    assert other.share.pause() == 0
    one.serve(4)
    serve(other, one)
    serve(other)
    assert one.share.pause() == SPARE_PAUSE
    serve(other)
    assert other.share.pause() == 0, "it has nobody to leave them to"


def test_the_spare_one_looks_now_and_then(workers):
    one, other = workers
    make_spare(one, other)
    for _ in range(3):
        serve(other)
        one.share.resume()
        assert one.share.pause() == 0, "it accepts what waits"
        one.serve(4)
        serve(other)
        assert one.share.pause() == SPARE_PAUSE


def test_the_spare_one_takes_part_while_many_wait(workers):
    one, other = workers
    make_spare(one, other)
    one.share.resume()
    for _ in range(5):
        assert one.share.max_accept == ACCEPTED_AT_ONCE
        one.serve(ACCEPTED_AT_ONCE)
        serve(other)
        serve(other)
        assert one.share.pause() == 0
    one.serve(ACCEPTED_AT_ONCE - 1)
    one.serve(1)
    serve(other)
    serve(other)
    assert one.share.pause() == SPARE_PAUSE


def test_the_spare_one_takes_over_when_the_other_does_not_accept(workers):
    one, other = workers
    make_spare(one, other)
    one.share.resume()
    one.serve(4)
    assert one.share.pause() == 0
    for _ in range(5):
        serve(one)
        assert one.share.pause() == 0


def test_clients_that_stay_again_are_shared_again(workers):
    one, other = workers
    for _ in range(3):
        serve(one)
        assert one.share.pause() == 0
    for _ in range(WINDOW // 4):
        one.accept(4)
    assert one.share.pause() == FULLER_PAUSE
    assert one.share.max_accept == ACCEPTED_WITH_OTHERS


def test_without_room_they_are_left_to_who_has_room_but_not_for_ever():
    counts = ClientCounts(2)
    counts.assign_rows(["p"])
    full = Worker(0, counts, room=ACCEPTED_WITH_OTHERS - 1)
    for _ in range(LEFT_TO_OTHERS):
        assert full.share.pause() == FULLER_PAUSE
        full.share.resume()
    assert full.share.pause() == 0
    full.context.others_have_room = lambda more: False
    for _ in range(3):
        assert full.share.pause() == 0


def test_a_worker_at_two_sockets_is_away_until_it_accepts_at_both(workers):
    """The clients of all listening sockets of a worker count."""
    one, other = workers
    second = AcceptShare(one.context)
    one.accept(4)
    assert (one.share.pause(), second.pause()) == (FULLER_PAUSE, FULLER_PAUSE)
    other.accept(20)
    one.share.resume()
    assert other.share.pause() == 0
    second.resume()
    assert other.share.pause() == FULLER_PAUSE

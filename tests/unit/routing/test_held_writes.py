"""Writes that wait for the fills of another worker: with a second column of the shared memory, which the test fills and changes."""

import pytest
from support.requests import request_for
from support.routes import Client, KeepingServer, options_of

from gmproxy.protocol.request import INTERNAL_ERROR
from gmproxy.routing.held_writes import AwaitFills, HeldWrites
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import PRIMARY
from gmproxy.shared.memory import SharedMemory

NOW = 1000.0


class Play:
    """A primary behind an AwaitFills, a client, and another worker, of which the test has the notes.

    released   writes that were held and sent, in order
    """

    def __init__(self):
        memory = SharedMemory.create()
        ours, self.other = SharedColumn(memory), SharedColumn(memory).notes
        self.options = options_of("-s", "127.0.0.1:1")
        self.primary = KeepingServer(1, self.options)
        self.primary.share(ours, "shop", PRIMARY)
        self.client = Client()
        self.held = HeldWrites(set(), self.options)
        self.released = []
        self.route = AwaitFills(self.primary, self.primary, self.held, self.release)

    def release(self, request):
        self.released.append(request)
        return self.primary.send(request)

    def ask(self, line=b"delete k\r\n", keys=None):
        request = request_for(line, keys)
        request.sink = self.client
        assert self.route.send(request) is None
        return request

    @property
    def late(self):
        """A time at which a write that was looked at at NOW has waited for too long."""
        return NOW + self.options.timeout


def test_a_write_passes_while_nothing_is_filled():
    play = Play()
    request = play.ask()
    assert play.primary.sent == [request] and not play.held.requests and request.sink is play.client
    fill = play.other.begin_fill(b"another", 1)
    assert play.primary.sent == [request, play.ask()]
    play.other.end_note(fill)


def test_a_fill_of_this_worker_holds_nothing():
    """It is sent on the same connection as the write, before it or never."""
    play = Play()
    play.primary.notes.begin_fill(b"k", 1)
    assert play.primary.sent == [play.ask()]


def test_a_write_is_held_until_the_fill_has_ended():
    play = Play()
    fill = play.other.begin_fill(b"k", 1)
    request = play.ask()
    assert play.primary.sent == [] and play.held.requests == {request}
    play.held.release_due(NOW)
    assert play.primary.sent == []
    play.other.end_note(fill)
    assert play.primary.sent == [], "this worker looks once a tick"
    play.held.release_due(NOW + 0.1)
    assert play.primary.sent == play.released == [request] and not play.held.requests
    assert not play.primary.behind
    play.held.release_due(NOW + 0.2)
    assert play.released == [request]


def test_whether_its_key_is_filled_again_does_not_matter_after_the_timeout():
    """The fill may still arrive behind the write: so the key is deleted once more."""
    play = Play()
    play.other.begin_fill(b"k", 1)
    request = play.ask(b"set k 0 0 1\r\nx\r\n")
    play.held.release_due(NOW)
    play.held.release_due(play.late - 0.01)
    assert play.primary.sent == [] and not play.primary.behind
    play.held.release_due(play.late)
    assert play.primary.sent == [request] and b"k" in play.primary.invalidations


def test_the_time_counts_from_the_first_tick():
    play = Play()
    play.other.begin_fill(b"k", 1)
    play.ask()
    play.held.release_due(play.late + 100)
    assert play.primary.sent == []


def test_several_are_released_in_order():
    """Of one key, and each as soon as its own fills have ended."""
    play = Play()
    fills = [play.other.begin_fill(key, 1) for key in (b"k", b"l")]
    first, second, third = play.ask(), play.ask(b"incr l 1\r\n"), play.ask(b"set k 0 0 1\r\nx\r\n")
    play.other.end_note(fills[0])
    play.held.release_due(NOW)
    assert play.released == [first, third] and play.held.requests == {second}
    play.other.end_note(fills[1])
    play.held.release_due(NOW)
    assert play.released == [first, third, second]


def test_a_write_of_several_keys_waits_for_each():
    play = Play()
    fills = [play.other.begin_fill(key, 1) for key in (b"j", b"k")]
    play.ask(b"gat 9 i j k\r\n", [b"i", b"j", b"k"])
    for fill in fills:
        play.held.release_due(NOW)
        assert play.released == []
        play.other.end_note(fill)
    play.held.release_due(NOW)
    assert len(play.released) == 1


def test_late_it_deletes_all_its_keys():
    play = Play()
    play.other.begin_fill(b"k", 1)
    play.ask(b"gat 9 j k\r\n", [b"j", b"k"])
    play.held.release_due(NOW)
    play.held.release_due(play.late)
    assert set(play.primary.invalidations.pending()) == {b"j", b"k"}
    assert len(play.primary.sent) == 1 and not play.held.requests and play.released == [], "it does not wait again"


def test_another_change_is_no_fill():
    play = Play()
    play.other.begin_change(b"k", 1, PRIMARY_WORD)
    assert play.primary.sent == [play.ask()]


# -- what may happen to a request meanwhile


def test_one_that_was_abandoned_is_not_sent():
    play = Play()
    fill = play.other.begin_fill(b"k", 1)
    request = play.ask()
    request.abandon()
    play.other.end_note(fill)
    play.held.release_due(NOW)
    assert play.released == [] and not play.held.requests and play.client.heard == [INTERNAL_ERROR]


def test_one_that_is_forgotten_is_not_sent():
    play = Play()
    fill = play.other.begin_fill(b"k", 1)
    request = play.ask()
    play.held.forget(request)
    play.held.forget(request)
    play.other.end_note(fill)
    play.held.release_due(play.late)
    assert play.released == [] and not play.held.requests


@pytest.mark.parametrize("where", ["release", "must_wait", "release_late"])
def test_an_internal_error_concerns_one_request(where, internal_errors_counted):
    play = Play()
    calls = {"release": play.release, "must_wait": lambda: where != "release", "release_late": play.release}

    def fail(*arguments):
        raise ValueError("of the test")

    first, second = request_for(b"delete k\r\n"), request_for(b"delete l\r\n")
    first.sink, second.sink = play.client, Client()
    broken = {**calls, where: fail}
    play.held.hold(first, broken["must_wait"], broken["release"], broken["release_late"])
    play.held.hold(second, calls["must_wait"], calls["release"], calls["release_late"])
    play.held.release_due(NOW)
    play.held.release_due(play.late)
    assert play.released == [second]
    assert play.client.heard == [INTERNAL_ERROR] and internal_errors_counted() == 1
    assert not play.held.requests


def test_sessions_that_wait_for_nothing_more_are_resumed():
    """Of requests that are completed while they are sent, and of those that are abandoned."""

    class Session(Client):
        def resume(self):
            resumed.append(self)

    resumed = []
    play = Play()
    fill = play.other.begin_fill(b"k", 1)
    play.client = Session()
    play.ask()
    play.held._waiting[play.ask()].release = lambda request: request.fail("ejected", "a:1")
    play.other.end_note(fill)
    play.held.release_due(NOW)
    assert resumed == [play.client] and play.client.heard == [("ejected", "a:1")]


def test_explained_as_the_route_behind_it():
    play = Play()
    assert play.route.explain(b"k", True) == play.primary.explain(b"k", True)

"""A fill without a client, by the operator command refill: what it sends, and how it ends."""

import pytest
from support.replication import sources_of
from support.routes import KeepingServer

from gmproxy.routing.background_fill import FAILED, FILLED, MISSING, NOT_FILLED, BackgroundFill
from gmproxy.routing.fill import Fill, FillWrites
from gmproxy.routing.fill_rules import FillRules

HIT = b"VA 1 f7 t-1\r\n5\r\n"
MISS = b"EN\r\n"


class Play:
    """A BackgroundFill of the key k that was started. `outcomes`: what it reported."""

    def __init__(self):
        self.server, self.source = KeepingServer(1), KeepingServer(2, set_index=1)
        self.fill = Fill(self.server, sources_of(self.source), FillWrites(self.server, None), FillRules(self.server.options))
        self.outcomes = []
        self.start()

    def start(self):
        assert BackgroundFill(b"k", self.fill, self.outcomes.append).start() is None

    @property
    def lookup(self):
        return self.source.sent[0]


@pytest.fixture
def play():
    return Play()


def test_a_key_of_another_set_is_added(play):
    assert play.source.lines == [b"mg k f t v\r\n"] and not play.outcomes
    play.source.answer(play.lookup, HIT)
    assert play.outcomes == [FILLED] and play.server.lines == [b"add k 7 0 1\r\n5\r\n"]
    assert play.server.counters.fills == 1
    play.server.answer(play.server.sent[0], b"STORED\r\n")
    assert play.outcomes == [FILLED]


def test_a_key_that_no_set_has(play):
    play.source.answer(play.lookup, MISS)
    assert (play.outcomes, play.server.lines) == ([MISSING], [])


def test_a_set_that_does_not_reply(play):
    play.source.fail(play.lookup)
    assert (play.outcomes, play.server.lines) == ([FAILED], [])


def test_a_write_meanwhile_voids_it(play):
    play.server.void_fill_of_key(b"k")
    play.source.answer(play.lookup, HIT)
    assert (play.outcomes, play.server.lines) == ([NOT_FILLED], [])


def test_of_two_the_first_one_fills(play):
    play.start()
    for lookup in list(play.source.sent):
        play.source.answer(lookup, HIT)
    assert (play.outcomes, len(play.server.lines)) == ([FILLED, NOT_FILLED], 1)


def test_an_internal_error_ends_it_once(play):
    lookup = play.lookup
    sink = lookup.sink
    lookup.sink = None
    assert sink.on_internal_error(lookup) is None
    assert sink.on_internal_error(lookup) is None
    assert (play.outcomes, play.server.fetches) == ([FAILED], {})

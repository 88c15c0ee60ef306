"""A value that a server lacks is looked up in the other sets, in order."""

import pytest
from support.requests import request_for
from support.routes import Client, KeepingServer

from gmproxy.placement.locators import SingleServer
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.shard import Shard
from gmproxy.routing.sources import Sources

LOOKUP = b"mg k c v\r\n"
HIT = b"VA 1 c5\r\n7\r\n"


class Play:
    def __init__(self, line=LOOKUP):
        self.servers = [KeepingServer(index, set_index=index) for index in (1, 2, 3)]
        shards = [Shard(SingleServer(0), [server], [server], [server], RouteCounters()) for server in self.servers]
        self.sources = Sources(shards, 4)
        self.client = Client()
        self.request = request_for(line)
        self.request.sink = self.client
        self.sources.send(self.request)

    @property
    def asked(self):
        return [len(server.sent) for server in self.servers]

    def answer(self, number, reply):
        return self.servers[number].answer(self.servers[number].sent[-1], reply)

    def fail(self, number, reason="timeout"):
        return self.servers[number].fail(self.servers[number].sent[-1], reason)


def test_the_first_that_has_it_answers():
    play = Play()
    assert play.asked == [1, 0, 0]
    assert play.answer(0, HIT) is play.client
    assert play.asked == [1, 0, 0] and play.client.heard == [b"VA 1 c%d\r\n7\r\n" % (5 | 1 << 56)]


@pytest.mark.parametrize("line, miss", [(LOOKUP, b"EN\r\n"), (b"gets k\r\n", b"END\r\n")])
def test_after_a_miss_the_next_is_asked(line, miss):
    play = Play(line)
    play.answer(0, miss)
    assert play.asked == [1, 1, 0] and play.client.heard == []
    play.answer(1, miss)
    play.answer(2, miss)
    assert play.asked == [1, 1, 1] and play.client.heard == [miss]


def test_after_a_failure_the_next_is_asked_and_its_number_is_marked():
    play = Play()
    play.fail(0)
    play.answer(1, HIT)
    assert play.asked == [1, 1, 0] and play.client.heard == [b"VA 1 c%d\r\n7\r\n" % (5 | 2 << 56)]


def test_if_none_has_it_and_one_has_failed_nobody_knows():
    play = Play()
    play.answer(0, b"EN\r\n")
    play.fail(1, "closed")
    play.answer(2, b"EN\r\n")
    assert (play.request.error, play.request.failed_server) == ("closed", "127.0.0.1:2")


def test_an_error_line_is_an_answer():
    """That of a server without meta commands: a get follows (fetch.py)."""
    play = Play()
    play.answer(0, b"ERROR\r\n")
    assert play.asked == [1, 0, 0] and play.client.heard == [b"ERROR\r\n"]


def test_all_that_may_be_asked_are_named():
    play = Play()
    assert play.sources.servers_of(b"k") == play.servers
    assert [hop.server for hop in play.sources.explain(b"k", False)] == [server.label for server in play.servers]

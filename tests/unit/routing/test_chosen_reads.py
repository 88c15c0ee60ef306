"""Which set a read is sent to: the nearest, or each in turn."""

import pytest
from support.requests import client_request
from support.routes import Client, KeepingServer
from support.shared import column_of_test

from gmproxy.placement.locators import SingleServer
from gmproxy.routing.chosen_reads import TURNS_OF_WARMING, ChosenReads
from gmproxy.routing.counters import RouteCounters
from gmproxy.routing.sets import ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.shared.changes import PRIMARY_WORD

PLAIN = [b"get k\r\n", b"mg k v\r\n", b"get k j\r\n"]
OF_MAIN = [
    b"gets k\r\n",
    b"gat 9 k\r\n",
    b"mg k v c\r\n",
    b"mg k T9 v\r\n",
    b"mg k N9 v\r\n",
    b"mg k R9 v\r\n",
    b"incr k 1\r\n",
    b"gets k j\r\n",
]


class Play:
    def __init__(self, chosen=(0, 1, 2)):
        self.servers = [KeepingServer(index + 1, set_index=index) for index in (0, 1, 2)]
        shards = [self.shard(server) for server in self.servers]
        self.main = KeepingServer(9)
        sets = [ServerSet(index, "b", "", [server], SingleServer(0)) for index, server in enumerate(self.servers)]
        self.route = ChosenReads(self.shard(self.main), [sets[index] for index in chosen], [shards[index] for index in chosen])

    @staticmethod
    def shard(server):
        return Shard(SingleServer(0), [server], [server], [server], RouteCounters())

    def read(self, line, times=1):
        for _ in range(times):
            request = client_request(line)
            request.sink = Client()
            self.route.send(request)

    @property
    def counts(self):
        """(reads of the main set by the usual route, reads of each set in turn)"""
        return len(self.main.sent), [len(server.sent) for server in self.servers]


@pytest.mark.parametrize("line", PLAIN)
def test_spread_asks_each_set_in_turn(line):
    play = Play()
    play.read(line, 30)
    assert play.counts == (0, [10, 10, 10])


@pytest.mark.parametrize("line", OF_MAIN)
@pytest.mark.parametrize("chosen", [(0, 1, 2), (1,)])
def test_what_only_the_main_set_may_answer(line, chosen):
    play = Play(chosen)
    play.read(line, 3)
    assert play.counts == (3, [0, 0, 0])


@pytest.mark.parametrize("line", PLAIN)
def test_near_has_one_set(line):
    play = Play((1,))
    play.read(line, 3)
    assert play.counts == (0, [0, 3, 0])


@pytest.mark.parametrize("line", PLAIN)
def test_turns_of_an_ejected_server_are_shared(line):
    play = Play()
    play.servers[1].health.eject_by_hand(1.0)
    play.read(line, 30)
    assert play.counts == (0, [15, 0, 15])


def test_if_none_is_up_the_usual_route_says_so():
    play = Play()
    for server in play.servers:
        server.health.eject_by_hand(1.0)
    play.read(b"get k\r\n")
    assert play.counts == (1, [0, 0, 0])


def test_while_all_are_warming_all_are_asked():
    play = Play()
    for server in play.servers:
        server.ask_backup_on_miss = True
    play.read(b"get k\r\n", 30)
    assert play.counts == (0, [10, 10, 10])


def test_one_that_is_warming_has_few_turns():
    """Its misses are looked up in the other sets, and fill it."""
    play = Play()
    play.servers[1].ask_backup_on_miss = True
    play.read(b"get k\r\n", 3 * TURNS_OF_WARMING * 4)
    main, (first, warming, third) = play.counts
    assert main == 0 and 1 <= warming <= 8 and abs(first - third) <= 8


@pytest.mark.parametrize("line, is_main", [(b"get k\r\n", True), (b"get j k\r\n", True), (b"get j\r\n", False)])
@pytest.mark.parametrize("chosen", [(0, 1, 2), (1,)])
def test_what_is_being_changed_is_read_on_the_main_set(line, is_main, chosen):
    play = Play(chosen)
    note = column_of_test().notes.begin_change(b"k", 0, PRIMARY_WORD)
    play.read(line)
    assert play.counts[0] == is_main
    column_of_test().notes.end_note(note)
    play.read(line)
    assert play.counts[0] == is_main


def test_it_explains_where_a_get_goes():
    hop, *_ = Play().route.explain(b"k", False)
    assert hop.step == "spread"
    assert Play((1,)).route.explain(b"k", False)[0].server == "127.0.0.1:2"
    assert Play().route.explain(b"k", True)[0].server == "127.0.0.1:9"

"""The routes of a pool with replicas, as a tree."""

import pytest
from support.replication import main_set
from support.requests import request_for
from support.routes import Client, KeepingServer, options_of

from gmproxy.placement.locators import SingleServer
from gmproxy.routing.builder import Builder
from gmproxy.routing.chosen_reads import ChosenReads
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import FillBeforeWrite, FillOrFailover
from gmproxy.routing.held_writes import AwaitFills
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.sets import ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.shared.changes import COPIES_WORD, PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.memory import SharedMemory

REPLICAS = ("--replica", "127.0.0.1:2", "--replica", "127.0.0.1:3")


def compose(*arguments, gutter=False, replicas=2):
    """(the servers: of main, of each replica, of the gutter; the Routes)"""
    options = options_of("-s", "127.0.0.1:1", *REPLICAS[: 2 * replicas], *arguments)
    options.failover_ttl = 30
    servers = [KeepingServer(port + 1, set_index=port) for port in range(replicas + 1 + gutter)]
    sets = [ServerSet(index, f"r{index}", f"zone{index}", [server], SingleServer(0)) for index, server in enumerate(servers)]
    main = main_set([servers[0]])
    main.zone = "zone0"
    builder = Builder(options, lambda request: None)
    return servers, builder.compose(main, sets[1 : replicas + 1], None, sets[-1] if gutter else None)


def read_order(route):
    """The servers that a read is sent to, one after the other."""
    order = []
    while route is not None:
        if isinstance(route, Shard):
            (route,) = route.reads
        if isinstance(route, FillOrFailover):
            order.append(route.fill.server)
            route = route.backup
        elif isinstance(route, Failover):
            order.append(route.primary.server)
            route = route.backup
        else:
            order.append(route.server)
            route = None
    return order


def test_reads_go_from_set_to_set():
    servers, routes = compose()
    assert read_order(routes.entry) == servers


def test_a_gutter_is_read_last():
    servers, routes = compose(gutter=True)
    assert read_order(routes.entry) == servers
    assert servers[-1].set_index == 3


def test_a_pool_may_have_a_gutter_alone():
    servers, routes = compose(gutter=True, replicas=0)
    assert read_order(routes.entry) == servers
    (write,) = routes.after_fill.writes
    stand_in = write.next_route
    assert type(stand_in) is WriteFailover and stand_in.primary.server is servers[0] and stand_in.primary.copies.sets == []
    (gutter,) = stand_in.backup.writes
    assert (gutter.server, gutter.records_keys, gutter.max_life) == (servers[1], True, 30)


def test_while_all_replicas_are_switched_off_writes_are_noted():
    """A worker that has not switched them off yet may fill from them."""
    options = options_of("-s", "127.0.0.1:1", *REPLICAS)
    server = KeepingServer(1)
    (write,) = Builder(options, lambda request: None).compose(main_set([server]), [], None).after_fill.writes
    request = request_for(b"set k 0 0 1\r\nx\r\n")
    request.sink = Client()
    write.send(request)
    assert server.notes.is_changing(b"k")
    server.answer(request, b"STORED\r\n")
    assert request.reply == b"STORED\r\n" and not server.notes.is_changing(b"k")


@pytest.mark.parametrize("zone, order", [("zone1", [1, 0, 2]), ("zone2", [2, 0, 1]), ("zone0", [0, 1, 2]), ("elsewhere", [0, 1, 2])])
def test_near_reads_the_sets_of_the_zone_first(zone, order):
    servers, routes = compose("--read", "near", "--zone", zone)
    assert type(routes.entry) is ChosenReads
    (chain,) = routes.entry.chains
    assert read_order(chain) == [servers[index] for index in order]
    assert read_order(routes.entry.main) == servers


def test_spread_begins_with_each_set():
    servers, routes = compose("--read", "spread")
    orders = [[0, 1, 2], [1, 0, 2], [2, 0, 1]]
    assert [read_order(chain) for chain in routes.entry.chains] == [[servers[index] for index in order] for order in orders]


@pytest.mark.parametrize("write, acks", [("main", 1), ("majority", 2), ("all", 3)])
def test_writes_go_to_all_sets_behind_the_one_that_acts(write, acks):
    servers, routes = compose("--write", write)
    first = routes.entry.writes[0]
    assert type(first) is FillBeforeWrite and type(first.next_route) is AwaitFills
    route = first.next_route.next_route
    for index in (0, 1):
        assert (type(route), route.server, route.rules.acks) == (Replicate, servers[index], acks)
        assert route.copies.of(b"k") == servers[index + 1 :] and route.next_copies == (index == 0)
        (following,) = route.next_route.writes
        assert (type(following), following.server, following.records_keys, following.sets) == (
            BackupAsPrimary,
            servers[index + 1],
            False,
            3,
        )
        assert type(following.next_route) is FillBeforeWrite
        route = following.next_route.next_route
    assert route is servers[2]


def test_each_server_is_filled_from_all_other_sets():
    servers, routes = compose()
    filled = {fill.server: [shard.servers[0] for shard in fill.source.shards] for fill in routes.fills}
    assert filled == {server: [other for other in servers if other is not server] for server in servers}


@pytest.mark.parametrize("line, reply", [(b"incr k 1\r\n", b"6\r\n"), (b"add k 0 0 1\r\nx\r\n", b"STORED\r\n")])
@pytest.mark.parametrize("word, fails", [(PRIMARY_WORD, True), (COPIES_WORD, False)])
def test_a_replica_that_acts_fails_what_the_main_set_does_not_have(line, reply, word, fails):
    """Another worker changes the key on the main set, which is up again, before the replica has replied."""
    memory = SharedMemory.create()
    ours, theirs = SharedColumn(memory), SharedColumn(memory)
    servers, routes = compose()
    for server in servers:
        server.share(ours, "", server.role)
    servers[0].health.eject_by_hand(1.0)
    request = request_for(line)
    request.sink = client = Client()
    routes.after_fill.writes[0].send(request)
    (sent,) = [one for one in servers[1].sent if one.line == line]
    theirs.notes.end_note(theirs.notes.begin_change(b"k", 0, word))
    servers[1].answer(sent, reply)
    for copy in servers[2].sent:
        servers[2].answer(copy, reply)
    assert (client.heard == [reply]) != fails

"""The routes of a pool: only those that the pool uses."""

import pytest
from support.replication import backup_set, main_set
from support.requests import request_for
from support.routes import Client, KeepingServer, options_of

from gmproxy.placement.locators import SingleServer
from gmproxy.routing import builder as builder_module
from gmproxy.routing import lasting
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.builder import Builder
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import Fill, FillBeforeWrite, FillOrFailover, FillWrites
from gmproxy.routing.held_writes import AwaitFills
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.router import Router
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import HomeRing, StandInReads, StandInWrites

LOCATOR, BACKUP_LOCATOR = SingleServer(0), SingleServer(1)


@pytest.fixture
def servers():
    return [KeepingServer(1), KeepingServer(2)]


@pytest.fixture
def backups():
    return [KeepingServer(3, set_index=1), KeepingServer(4, set_index=1)]


def released(request):
    """Never called here."""


def builder(backup_writes="async"):
    return Builder(options_of("-s", "127.0.0.1:1", "--backup-writes", backup_writes), released)


def notes_of(servers):
    return HomeRing(servers, LOCATOR, 30)


@pytest.fixture
def counted(monkeypatch):
    """Returns how many of each class the builder makes."""
    made = {}

    def count(kind):
        def make(*arguments):
            made[kind] = made.get(kind, 0) + 1
            return kind(*arguments)

        return make

    for kind in (
        Shard,
        Failover,
        FillOrFailover,
        BackupAsPrimary,
        WriteFailover,
        Fill,
        FillWrites,
        FillBeforeWrite,
        Replicate,
        StandInReads,
        StandInWrites,
    ):
        for module in (builder_module, lasting):
            if hasattr(module, kind.__name__):
                monkeypatch.setattr(module, kind.__name__, count(kind))
    return made


# -- without backups


def test_primaries_only(servers, counted):
    """A Shard, whose routes are the servers themselves. Nothing else is made."""
    composer = builder()
    routes = composer.compose(main_set(servers, LOCATOR), [], None)
    assert counted == {Shard: 1}
    assert routes.entry is routes.after_fill is routes.own and type(routes.entry) is Shard
    assert routes.entry.locator is LOCATOR
    assert routes.entry.servers == routes.entry.reads == routes.entry.writes == servers
    assert all(route is server for route, server in zip(routes.entry.reads + routes.entry.writes, servers * 2))


def test_a_request_for_primaries_only_meets_nothing_else(servers):
    """It arrives at the server unchanged, with its client as the sink."""
    for line in (b"get k\r\n", b"set k 0 0 1\r\nx\r\n", b"add k 0 0 1\r\nx\r\n", b"gat 9 k\r\n"):
        request = request_for(line)
        request.sink = client = Client()
        builder().compose(main_set(servers, LOCATOR), [], None).entry.send(request)
        assert servers[0].sent.pop() is request and request.sink is client and request.line == line
    assert servers[0].sent == servers[1].sent == []


def test_some_are_ejected(servers, counted):
    home_ring = notes_of(servers)
    routes = builder().compose(main_set(servers, LOCATOR), [], home_ring)
    assert counted == {Shard: 1, StandInReads: 2, StandInWrites: 2}
    assert routes.entry is routes.after_fill is routes.own
    assert [(type(route), route.server, route.next_route, route.home_ring) for route in routes.entry.reads] == [
        (StandInReads, server, server, home_ring) for server in servers
    ]
    assert [(type(route), route.server, route.next_route, route.home_ring) for route in routes.entry.writes] == [
        (StandInWrites, server, server, home_ring) for server in servers
    ]


# -- with backups


@pytest.mark.parametrize("backup_writes", ["async", "sync"])
@pytest.mark.parametrize("away", [False, True])
def test_backups_that_get_copies(servers, backups, backup_writes, away):
    composer = builder(backup_writes)
    home_ring = notes_of(servers) if away else None
    routes = composer.compose(main_set(servers, LOCATOR), [backup_set(backups, BACKUP_LOCATOR)], home_ring)
    for number, server in enumerate(servers):
        waiting = routes.entry.writes[number]
        assert (type(waiting), waiting.held, waiting.release) == (FillBeforeWrite, composer.held, released)
        awaits = waiting.next_route
        assert (type(awaits), awaits.primary, awaits.held, awaits.release) == (AwaitFills, server, composer.held_writes, released)
        assert routes.after_fill.writes[number] is awaits, "what has waited for its own fill may have to wait for one of another worker"
        change = awaits.next_route
        if away:
            assert (type(change), change.server, change.home_ring) == (StandInWrites, server, home_ring)
            change = change.next_route
        assert (type(change), change.server, change.rules) == (Replicate, server, ReplicaRules(waits_for_all=backup_writes == "sync"))
        assert change.undecided is composer.undecided and change.counters is composer.counters
        assert [(one.locator, one.backends) for one in change.copies.sets] == [(BACKUP_LOCATOR, backups)] and not change.next_copies
        assert acting_in(change.next_route) == [(backup, False) for backup in backups]
        primary = change.primary_route
        assert primary is routes.entry.reads[number] is routes.after_fill.reads[number]
        assert type(primary) is (Failover if away else FillOrFailover) and primary.backup is change.next_route
        fill = fill_behind(primary.primary, server, home_ring)
        is_fill_of(server, fill, backups, home_ring)
        assert waiting.fill is fill


@pytest.mark.parametrize("away", [False, True])
def test_backups_that_get_none(servers, backups, away):
    composer = builder("off")
    home_ring = notes_of(servers) if away else None
    routes = composer.compose(main_set(servers, LOCATOR), [backup_set(backups, BACKUP_LOCATOR)], home_ring)
    for number, server in enumerate(servers):
        read, waiting = routes.entry.reads[number], routes.entry.writes[number]
        change = waiting.next_route.next_route
        if away:
            assert (type(change), change.server, change.home_ring) == (StandInWrites, server, home_ring)
            change = change.next_route
        assert type(change) is WriteFailover and change.backups.reads == backups
        assert acting_in(change.backup) == [(backup, True) for backup in backups], "what they are told is deleted later"
        assert type(read) is (Failover if away else FillOrFailover)
        assert fill_behind(read.primary, server, home_ring) is change.primary is waiting.fill
        is_fill_of(server, change.primary, backups, home_ring)


def acting_in(shard):
    """[(server, whether it records stand-in keys)] of the backups that reply for a primary."""
    assert shard.locator is BACKUP_LOCATOR and shard.reads == shard.writes and {type(route) for route in shard.reads} == {BackupAsPrimary}
    return [(route.server, route.records_keys) for route in shard.reads]


def fill_behind(route, server, home_ring):
    """The Fill of a read, which is behind a StandInReads while servers are ejected."""
    if home_ring is None:
        return route
    assert (type(route), route.server, route.home_ring) == (StandInReads, server, home_ring)
    return route.next_route


def is_fill_of(server, fill, backups, home_ring):
    assert (type(fill), fill.server, fill.source.sets) == (Fill, server, 2)
    assert [(shard.locator, shard.reads) for shard in fill.source.shards] == [(BACKUP_LOCATOR, backups)]
    assert (type(fill.fill_writes), fill.fill_writes.server, fill.fill_writes.home_ring) == (FillWrites, server, home_ring)


@pytest.mark.parametrize("backup_writes", ["async", "sync", "off"])
@pytest.mark.parametrize("proxies", ["one", "several"])
def test_where_other_proxies_write_what_is_like_a_delete_is_held(servers, backups, backup_writes, proxies):
    """Only where the backups receive copies. It is held last, and also if it was held for a fill before."""
    composer = Builder(options_of("-s", "127.0.0.1:1", "--backup-writes", backup_writes, "--proxies", proxies), released)
    routes = composer.compose(main_set(servers, LOCATOR), [backup_set(backups, BACKUP_LOCATOR)], notes_of(servers))
    for server, first, after_fill in zip(servers, routes.entry.writes, routes.after_fill.writes):
        assert first.next_route is after_fill
        last = after_fill.next_route
        if proxies == "one" or backup_writes == "off":
            assert isinstance(last, StandInWrites)
        else:
            assert (type(last), last.server, last.held, type(last.next_route)) == (BackupFirst, server, composer.held, StandInWrites)


@pytest.mark.parametrize("backup_writes", ["async", "sync", "off"])
@pytest.mark.parametrize("away", [False, True])
def test_what_another_gmproxy_asks_concerns_the_primaries_alone(servers, backups, backup_writes, away):
    home_ring = notes_of(servers) if away else None
    own = builder(backup_writes).compose(main_set(servers, LOCATOR), [backup_set(backups, BACKUP_LOCATOR)], home_ring).own
    assert (own.locator, own.servers) == (LOCATOR, servers)
    if away:
        assert [(type(route), route.next_route) for route in own.reads] == [(StandInReads, server) for server in servers]
        assert [(type(route), route.next_route) for route in own.writes] == [(StandInWrites, server) for server in servers]
    else:
        assert own.reads == own.writes == servers


@pytest.mark.parametrize("backup_writes", ["async", "off"])
def test_each_server_has_one_route_of_a_kind(servers, backups, backup_writes, counted):
    """The number does not depend on clients: none of them is made for a request."""
    builder(backup_writes).compose(main_set(servers, LOCATOR), [backup_set(backups, BACKUP_LOCATOR)], None)
    once = {FillOrFailover: 2, Fill: 2, FillWrites: 2, FillBeforeWrite: 2, BackupAsPrimary: 2, Shard: 5}
    assert counted == once | ({Replicate: 2} if backup_writes == "async" else {WriteFailover: 2})


# -- what a reload keeps


def test_what_outlives_a_route_is_the_pools(servers, backups):
    options = options_of("-s", "127.0.0.1:1")
    router = Router(options)
    kept = router.counters, router.undecided, router.held

    def place(live=None):
        return type("Placement", (), {"locator": LOCATOR})

    router.serve(main_set(servers, LOCATOR), place, [backup_set(backups, BACKUP_LOCATOR)])
    assert router.keeps_order
    router.serve(main_set(servers, LOCATOR), place, [])
    assert not router.keeps_order
    assert all(now is then for now, then in zip((router.counters, router.undecided, router.held), kept))

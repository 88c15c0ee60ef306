"""What a pool's route is composed of: no more than the pool uses."""

import pytest
from support.requests import request_for
from support.routes import Client, KeepingServer, options_of

from gmproxy.placement.locators import SingleServer
from gmproxy.routing import builder as module
from gmproxy.routing.builder import Builder
from gmproxy.routing.failover import ActingMain, Failover, Standby
from gmproxy.routing.fill import Adds, Fill, FillBeforeChange
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.router import Router
from gmproxy.routing.shard import Shard
from gmproxy.routing.stand_in import GuestNotes, StandIn

LOCATOR, BACKUP_LOCATOR = SingleServer(0), SingleServer(1)


@pytest.fixture
def servers():
    return [KeepingServer(1), KeepingServer(2)]


@pytest.fixture
def backups():
    return [KeepingServer(3), KeepingServer(4)]


def released(request):
    """Never called here."""


def builder(backup_writes="async"):
    return Builder(options_of("-s", "127.0.0.1:1", "--backup-writes", backup_writes), released)


def notes_of(servers):
    return GuestNotes(servers, LOCATOR, 30)


@pytest.fixture
def counted(monkeypatch):
    """How many of each class the builder makes."""
    made = {}

    def count(kind):
        def make(*arguments):
            made[kind] = made.get(kind, 0) + 1
            return kind(*arguments)

        return make

    for kind in (Shard, Failover, ActingMain, Standby, Fill, Adds, FillBeforeChange, Replicate, StandIn):
        monkeypatch.setattr(module, kind.__name__, count(kind))
    return made


# -- without backups


def test_primaries_only(servers, counted):
    """A Shard, whose routes are the servers themselves. Nothing else is made."""
    composer = builder()
    routes = composer.compose(servers, LOCATOR, [], None, None)
    assert counted == {Shard: 1}
    assert routes.entry is routes.filled is routes.own and type(routes.entry) is Shard
    assert routes.entry.locator is LOCATOR
    assert routes.entry.servers == routes.entry.reads == routes.entry.changes == servers
    assert all(route is server for route, server in zip(routes.entry.reads + routes.entry.changes, servers * 2))


def test_a_request_for_primaries_only_meets_nothing_else(servers):
    """It arrives at the server as its client sent it, with its client for a sink."""
    for line in (b"get k\r\n", b"set k 0 0 1\r\nx\r\n", b"add k 0 0 1\r\nx\r\n", b"gat 9 k\r\n"):
        request = request_for(line)
        request.sink = client = Client()
        builder().compose(servers, LOCATOR, [], None, None).entry.send(request)
        assert servers[0].sent.pop() is request and request.sink is client and request.line == line
    assert servers[0].sent == servers[1].sent == []


def test_some_are_ejected(servers, counted):
    notes = notes_of(servers)
    routes = builder().compose(servers, LOCATOR, [], None, notes)
    assert counted == {Shard: 1, StandIn: 2}
    assert routes.entry is routes.filled is routes.own
    assert routes.entry.reads == servers
    assert [(type(route), route.server, route.main, route.notes) for route in routes.entry.changes] == [
        (StandIn, server, server, notes) for server in servers
    ]


# -- with them


@pytest.mark.parametrize("backup_writes", ["async", "sync"])
@pytest.mark.parametrize("away", [False, True])
def test_backups_that_get_copies(servers, backups, backup_writes, away):
    composer = builder(backup_writes)
    notes = notes_of(servers) if away else None
    routes = composer.compose(servers, LOCATOR, backups, BACKUP_LOCATOR, notes)
    for number, server in enumerate(servers):
        waiting = routes.entry.changes[number]
        assert (type(waiting), waiting.held, waiting.release) == (FillBeforeChange, composer.held, released)
        assert routes.filled.changes[number] is waiting.main, "what has waited does not wait again"
        change = waiting.main
        if away:
            assert (type(change), change.server, change.notes) == (StandIn, server, notes)
            change = change.main
        assert (type(change), change.server, change.waited_for) == (Replicate, server, backup_writes == "sync")
        assert change.undecided is composer.undecided and change.counters is composer.counters
        assert (change.backups.locator, change.backups.reads, change.backups.changes) == (BACKUP_LOCATOR, backups, backups)
        assert acting_in(change.acting_main) == [(backup, False) for backup in backups]
        main = change.main
        assert main is routes.entry.reads[number] is routes.filled.reads[number]
        assert type(main) is Failover and main.backup is change.acting_main
        is_fill_of(server, main.main, backups, notes)
        assert waiting.fill is main.main


@pytest.mark.parametrize("away", [False, True])
def test_backups_that_get_none(servers, backups, away):
    composer = builder("off")
    notes = notes_of(servers) if away else None
    routes = composer.compose(servers, LOCATOR, backups, BACKUP_LOCATOR, notes)
    for number, server in enumerate(servers):
        read, waiting = routes.entry.reads[number], routes.entry.changes[number]
        change = waiting.main
        if away:
            assert (type(change), change.server, change.notes) == (StandIn, server, notes)
            change = change.main
        assert type(change) is Standby and change.backups.reads == backups
        assert acting_in(change.backup) == [(backup, True) for backup in backups], "what they are told is deleted later"
        assert type(read) is Failover and read.main is change.main is waiting.fill
        is_fill_of(server, read.main, backups, notes)


def acting_in(shard):
    """[(server, whether it keeps guests)] of the backups that answer for a primary."""
    assert shard.locator is BACKUP_LOCATOR and shard.reads == shard.changes and {type(route) for route in shard.reads} == {ActingMain}
    return [(route.server, route.keeps_guests) for route in shard.reads]


def is_fill_of(server, fill, backups, notes):
    assert (type(fill), fill.server, fill.source.locator, fill.source.reads) == (Fill, server, BACKUP_LOCATOR, backups)
    assert (type(fill.adds), fill.adds.server, fill.adds.notes) == (Adds, server, notes)


@pytest.mark.parametrize("backup_writes", ["async", "sync", "off"])
@pytest.mark.parametrize("away", [False, True])
def test_what_another_gmproxy_asks_concerns_the_primaries_alone(servers, backups, backup_writes, away):
    notes = notes_of(servers) if away else None
    own = builder(backup_writes).compose(servers, LOCATOR, backups, BACKUP_LOCATOR, notes).own
    assert (own.locator, own.servers, own.reads) == (LOCATOR, servers, servers)
    if away:
        assert [(type(route), route.main) for route in own.changes] == [(StandIn, server) for server in servers]
    else:
        assert own.changes == servers


@pytest.mark.parametrize("backup_writes", ["async", "off"])
def test_each_server_has_one_route_of_a_kind(servers, backups, backup_writes, counted):
    """However many clients there are: nothing of this is made for a request."""
    builder(backup_writes).compose(servers, LOCATOR, backups, BACKUP_LOCATOR, None)
    once = {Failover: 2, Fill: 2, Adds: 2, FillBeforeChange: 2, ActingMain: 2, Shard: 5}
    assert counted == once | ({Replicate: 2} if backup_writes == "async" else {Standby: 2})


# -- what a reload leaves


def test_what_outlives_a_route_is_the_pools(servers, backups):
    options = options_of("-s", "127.0.0.1:1")
    router = Router(options)
    kept = router.counters, router.undecided, router.held

    def place(live=None):
        return type("Placement", (), {"locator": LOCATOR})

    router.serve(servers, place, backups, BACKUP_LOCATOR)
    assert router.keeps_order
    router.serve(servers, place, [], None)
    assert not router.keeps_order
    assert all(now is then for now, then in zip((router.counters, router.undecided, router.held), kept))

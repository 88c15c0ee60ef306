"""The contract of every route: each request has exactly one outcome, whatever the servers do, in whatever order, and whatever raises."""

import importlib
import logging
import pkgutil
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from support.replication import backup_set, main_set
from support.routes import Client, KeepingServer, UnconnectedServer, options_of

import gmproxy.routing
from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.backend.interfaces import ConnectionOwner
from gmproxy.backend.missed_writes import MissedWrites
from gmproxy.errors import CLOSED
from gmproxy.placement.locators import Buckets
from gmproxy.protocol import commands
from gmproxy.protocol.request import INTERNAL_ERROR, Hop, Request, Route
from gmproxy.protocol.text.requests import TextParser
from gmproxy.routing.backup_first import BackupFirst
from gmproxy.routing.builder import Builder
from gmproxy.routing.change import Change
from gmproxy.routing.chosen_reads import ChosenReads
from gmproxy.routing.failover import BackupAsPrimary, Failover, WriteFailover
from gmproxy.routing.fill import Fill, FillBeforeWrite, FillOrFailover, FillWrites
from gmproxy.routing.held_writes import AwaitFills
from gmproxy.routing.replica_rules import ReplicaRules
from gmproxy.routing.replicate import Replicate
from gmproxy.routing.replicated_write import ReplicatedWrite
from gmproxy.routing.router import Router
from gmproxy.routing.sets import Copies, ServerSet
from gmproxy.routing.shard import Shard
from gmproxy.routing.sources import Sources
from gmproxy.routing.stand_in import HomeRing, StandInReads, StandInWrites


@pytest.fixture(autouse=True)
def quiet(internal_errors_counted):
    """Most tests here raise exceptions on purpose. They are not logged."""
    internal_errors_counted.may_occur = True
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# -- requests

LINES = {
    "get": b"get k0\r\n",
    "gets": b"gets k0\r\n",
    "get of several": b"get k0 k1 k2 k0\r\n",
    "gat": b"gat 9 k0\r\n",
    "gats": b"gats 9 k0\r\n",
    "gat of several": b"gat 9 k0 k1 k2\r\n",
    "set": b"set k0 0 0 1\r\nx\r\n",
    "add": b"add k0 0 0 1\r\nx\r\n",
    "replace": b"replace k0 0 0 1\r\nx\r\n",
    "append": b"append k0 0 0 1\r\nx\r\n",
    "prepend": b"prepend k0 0 0 1\r\nx\r\n",
    "cas": b"cas k0 0 0 1 7\r\nx\r\n",
    "incr": b"incr k0 1\r\n",
    "decr": b"decr k0 1\r\n",
    "delete": b"delete k0\r\n",
    "touch": b"touch k0 9\r\n",
    "touch -1": b"touch k0 -1\r\n",
    "gat -1 of several": b"gat -1 k0 k1 k2\r\n",
    "mg": b"mg k0 c v\r\n",
    "mg T": b"mg k0 T9 v\r\n",
    "mg N": b"mg k0 N9 v\r\n",
    "mg N T": b"mg k0 N9 T9 v\r\n",
    "ms": b"ms k0 1\r\nx\r\n",
    "ms MA": b"ms k0 1 MA\r\nx\r\n",
    "ms C": b"ms k0 1 C7\r\nx\r\n",
    "md": b"md k0\r\n",
    "md C": b"md k0 C7\r\n",
    "ma": b"ma k0 v\r\n",
    "ma C": b"ma k0 C7 v\r\n",
    "me": b"me k0\r\n",
}


def request_of(name, is_part):
    """As the client's parser makes it. `is_part`: as it is after it was divided by server, with only keys of the first server."""
    line = LINES[name]
    parser = TextParser(1000)
    parser.stream.feed(line.replace(b"k1", b"k4") if is_part else line)
    request = parser.next_request()
    assert request.reply is None and request.key == b"k0"
    if is_part and request.keys is not None:
        request.line = request.keys.command_line(request.line)
    return request


WITHOUT_A_KEY = {b"flush_all", b"version", b"stats", b"lru_crawler", b"verbosity", b"quit", b"mn"}
OF_META_COMMANDS = {name for name in dir(commands) if name.startswith("META_") and isinstance(getattr(commands, name), commands.Command)}


def test_every_command_is_asked():
    asked = {request_of(name, False).command for name in LINES}
    assert {command.name for command in asked} == set(commands.COMMANDS) - WITHOUT_A_KEY
    assert [name for name in sorted(OF_META_COMMANDS) if getattr(commands, name) not in asked] == []


HITS = {
    b"set": b"STORED",
    b"delete": b"DELETED",
    b"touch": b"TOUCHED",
    b"incr": b"6",
    b"decr": b"4",
    b"me": b"ME k0 exp=-1",
    b"ma": b"VA 1\r\n6",
}
MISSES = {
    b"incr": b"NOT_FOUND",
    b"decr": b"NOT_FOUND",
    b"delete": b"NOT_FOUND",
    b"touch": b"NOT_FOUND",
    b"mg": b"EN",
    b"me": b"EN",
    b"ms": b"NS",
}


def reply_to(request, hit):
    """(the reply of a server, the number of values in it)"""
    command, name = request.command, request.command.name
    if command.returns_values:
        keys = list(dict.fromkeys(request.keys or [request.key])) if hit else []
        cas = b" 5" if name in (b"gets", b"gats") else b""
        return b"".join(b"VALUE %b 0 1%b\r\nx\r\n" % (key, cas) for key in keys) + b"END\r\n", len(keys)
    if name == b"mg" and hit:
        return b"VA 1 c5 t-1\r\nx\r\n", 1
    if name == b"flush_all":
        return (b"OK\r\n" if hit else b"ERROR\r\n"), 0
    if hit:
        return HITS.get(name, b"HD" if command.is_meta else b"STORED") + b"\r\n", 0
    return MISSES.get(name, b"NF" if command.is_meta else b"NOT_STORED") + b"\r\n", 0


# -- servers


class Fault:
    """Raises once: when `who` is called for the time `number` (from 1), before it has done anything, or after it. `calls` counts the calls."""

    def __init__(self, who=None, number=0, after=False):
        self.place = (who, number, after)
        self.calls = Counter()

    def pass_by(self, who, after=False):
        if not after:
            self.calls[who] += 1
        if self.place == (who, self.calls[who], after):
            self.place = None
            raise ZeroDivisionError("a fault of the test")


class Server(KeepingServer):
    """
    unanswered   requests that it received and that have no outcome yet
    down         True: it fails a request before `send` returns, as an ejected server does
    """

    def __init__(self, port, who, fault, **options):
        super().__init__(port, **options)
        self.unanswered = []
        self.down = False
        self.who = who
        self.fault = fault

    def send(self, request):
        self.fault.pass_by(self.who)
        super().send(request)
        session = None
        if self.down:
            session = self.fail(request, "ejected")
        else:
            self.unanswered.append(request)
        self.fault.pass_by(self.who, after=True)
        return session

    def missed_write(self, request):
        self.fault.pass_by("journal")
        super().missed_write(request)


class RealServer(UnconnectedServer):
    down = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.unanswered = []

    def send(self, request):
        self.unanswered.append(request)
        return super().send(request)


class Asker(Client):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def on_reply(self, request):
        self.fault.pass_by("client")
        return super().on_reply(request)

    def on_failure(self, request):
        self.fault.pass_by("client")
        return super().on_failure(request)


class World:
    """Two primaries and their backups, and a route.

    cold   True: a miss of a primary is not final
    down   which servers are down: "server", "backup", both, or neither
    """

    def __init__(self, build, fault, cold=False, down=()):
        self.fault = fault
        self.servers = [Server(port, "server", fault) for port in (1, 2)]
        self.backups = [Server(port, "backup", fault, set_index=1) for port in (3, 4)]
        self.options = options_of("-s", "127.0.0.1:1")
        self.locator = self.locator_as("locator")
        self.backup_locator = self.locator_as("backup locator")
        self.router = None
        self.builder = Builder(self.options, lambda request: self.released.send(request))
        self.released = self.servers[0]
        self.route = build(self)
        for server in self.servers:
            server.ask_backup_on_miss = cold
        if len(self.backups) > 2:  # replicas
            for server in self.backups:
                server.ask_backup_on_miss = cold
        for server in self.servers + self.backups:
            server.down = getattr(server, "who", None) in down

    def locator_as(self, who):
        def hash_key(key):
            self.fault.pass_by(who)
            return key[-1]

        return Buckets([0, 1], hash_key)

    @property
    def server(self):
        return self.servers[0]

    @property
    def home_ring(self):
        """All keys belong to the other primary."""
        return HomeRing(self.servers, Buckets([1, 1], lambda key: 0), 30)

    @property
    def copies(self):
        return Shard(self.backup_locator, self.backups, self.backups, self.backups, self.builder.counters)

    @property
    def copied_to(self):
        return Copies([backup_set(self.backups, self.backup_locator)])

    def backup_as_primary(self, records_keys):
        acting = [BackupAsPrimary(backup, records_keys) for backup in self.backups]
        return Shard(self.backup_locator, self.backups, acting, acting, self.builder.counters)

    def fill(self):
        return Fill(self.server, Sources([self.copies], 2), FillWrites(self.server, None), self.builder.fill_rules)

    def replicate(self, sync):
        backup_as_primary = self.backup_as_primary(False)
        main = Failover(self.fill(), backup_as_primary)
        rules = ReplicaRules(waits_for_all=sync)
        return Replicate(self.server, main, self.copied_to, backup_as_primary, self.builder.undecided, rules, self.builder.counters)

    def pool(self, *arguments, backed=True, away=False, overlap=False):
        """A Router with its routes. `away`: one primary is ejected; `overlap`: one primary is its own backup."""
        self.options = options_of("-s", "127.0.0.1:1", *arguments)
        if overlap:
            self.backups = [Server(port, "backup", self.fault, set_index=1) for port in (1, 4)]
        if away:
            self.options.auto_eject_hosts = True
            self.server.health.failed(1000.0, self.server.options.server_failure_limit)
        self.router = self.builder = Router(self.options)
        place = lambda live=None: SimpleNamespace(locator=Buckets([1, 1], lambda key: 0) if live else self.locator)  # noqa: E731
        self.router.serve(main_set(self.servers, self.locator), place, [backup_set(self.backups, self.backup_locator)] if backed else [])
        return self.router

    def pool_with_replicas(self, *arguments, proxies="one"):
        """A Router of a pool with two replicas."""
        replicas = ("--replica", "127.0.0.1:3,127.0.0.1:4", "--replica", "127.0.0.1:5,127.0.0.1:6")
        self.options = options_of("-s", "127.0.0.1:1", "-s", "127.0.0.1:2", *replicas, "--proxies", proxies, *arguments)
        sets = [[Server(port, "backup", self.fault, set_index=index) for port in ports] for index, ports in ((1, (3, 4)), (2, (5, 6)))]
        self.backups = [server for of_set in sets for server in of_set]
        self.router = self.builder = Router(self.options)
        place = lambda live=None: SimpleNamespace(locator=self.locator)  # noqa: E731
        copies = [ServerSet(index, f"replica{index}", "near", servers, self.backup_locator) for index, servers in enumerate(sets, 1)]
        self.router.serve(main_set(self.servers, self.locator), place, copies)
        return self.router

    def real_server(self):
        self.servers = [RealServer(self.options.server[0], self.options, SimpleNamespace(health_changed=list), logging.getLogger("test"))]
        self.backups = []
        return self.server

    def abandon(self, request):
        """What the sender of a request does if sending raised."""
        if self.router is not None:
            self.router.abandon(request)
        else:
            request.abandon()
            self.builder.held.discard(request)

    def waiting(self):
        """(server, request) of all requests whose reply is awaited. No request is in two places."""
        found = [
            (server, request)
            for server in self.servers + self.backups
            for request in server.unanswered
            if request.sink is not None and not is_of_change_only(request)
        ]
        assert len({id(request) for _, request in found}) == len(found)
        return found


def is_of_change_only(request):
    """True if only a Change waits for the reply, and no client."""
    sink = request.sink
    return isinstance(sink, Change) and not (isinstance(sink, ReplicatedWrite) and request in sink.sent)


# -- outcomes


def answer(server, request, hit):
    request.reply, found = reply_to(request, hit)
    return server.request_replied(request, found)


def fail(server, request, reason, may_repeat):
    """What a connection does that ends."""
    try:
        return server.request_failed(request, reason, not may_repeat, may_repeat)
    except Exception:
        return server.request_abandoned(request)


EVENTS = (
    lambda server, request: answer(server, request, True),
    lambda server, request: answer(server, request, False),
    lambda server, request: fail(server, request, "timeout", False),
    lambda server, request: fail(server, request, CLOSED, True),
    lambda server, request: server.request_abandoned(request),
)
HIT, MISS, FAILURE, CLOSED_CONNECTION, ABANDONED = range(len(EVENTS))


def play(world, send, request, choose):
    """`send` the `request`, and execute the events that `choose(number of possibilities)` selects until no reply is awaited. Returns these events.
    The client must have had one reply."""
    client = request.sink = Asker(world.fault)
    try:
        session = send(request)
        assert (session is client) == (len(client.heard) > 0), "or nobody resumes its session"
    except ZeroDivisionError:
        world.abandon(request)
    events = []
    while waiting := world.waiting():
        number, event = divmod(choose(len(waiting) * len(EVENTS)), len(EVENTS))
        events.append(event)
        server, asked = waiting[number]
        server.unanswered.remove(asked)
        before = len(client.heard)
        session = EVENTS[event](server, asked)
        assert (session is client) == (len(client.heard) > before), "or nobody resumes its session"
        assert len(events) < 100
    assert len(client.heard) == 1, (request, events)
    assert not world.builder.held and not world.builder.undecided.by_key, (request, events)
    return events


def every_order(run, limit):
    """Call `run(choose)` with every sequence of choices. If there are more than `limit`, with `limit` sequences in order, and as many at random."""
    start = []
    for _ in range(limit):
        taken = []

        def choose(count):
            choice = start[len(taken)] if len(taken) < len(start) else 0
            taken.append((choice, count))
            return choice

        run(choose)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        start = [choice for choice, _ in taken]
        start[-1] += 1
    lots = random.Random(limit)
    for _ in range(limit):
        run(lots.randrange)


# -- the routes

READS = {name for name in LINES if not request_of(name, False).command.is_write}
CHANGES = set(LINES) - READS
SINGLE = {name for name in LINES if "several" not in name}

#: Class -> [(how one is made in a World, the requests that it gets)].
CASES = {
    Shard: [(lambda world: Shard(world.locator, world.servers, world.servers, world.servers, world.builder.counters), set(LINES))],
    Failover: [(lambda world: Failover(world.server, world.backup_as_primary(False)), set(LINES))],
    WriteFailover: [
        (lambda world: WriteFailover(world.server, world.fill(), world.backup_as_primary(True), world.copies, world.builder.counters), CHANGES)
    ],
    BackupAsPrimary: [(lambda world: BackupAsPrimary(world.backups[0], True), set(LINES))],
    Fill: [(World.fill, set(LINES))],
    FillOrFailover: [(lambda world: FillOrFailover(world.fill(), world.backup_as_primary(False)), set(LINES))],
    Sources: [(lambda world: Sources([world.copies, world.copies], 2), READS & SINGLE)],
    ChosenReads: [(lambda world: ChosenReads(world.copies, [backup_set(world.backups)], [world.copies]), set(LINES))],
    FillWrites: [(lambda world: FillWrites(world.server, world.home_ring), {"add", "ms C"})],
    FillBeforeWrite: [(lambda world: FillBeforeWrite(world.server, world.fill(), world.builder.held, world.server.send), CHANGES)],
    AwaitFills: [(lambda world: AwaitFills(world.server, world.server, world.builder.held_writes, world.server.send), CHANGES)],
    BackupFirst: [(lambda world: BackupFirst(world.replicate(False), world.server, world.copied_to, world.builder.held), CHANGES)],
    Replicate: [(lambda world: world.replicate(False), CHANGES), (lambda world: world.replicate(True), CHANGES)],
    StandInReads: [(lambda world: StandInReads(world.server, world.server, world.home_ring), READS)],
    StandInWrites: [(lambda world: StandInWrites(world.server, world.server, world.home_ring), CHANGES)],
    Backend: [(World.real_server, set(LINES))],
    Router: [
        (lambda world: world.pool(backed=False), set(LINES)),
        (lambda world: world.pool(backed=False, away=True), set(LINES)),
        (lambda world: world.pool("--backup-writes", "async"), set(LINES)),
        (lambda world: world.pool("--backup-writes", "sync"), set(LINES)),
        (lambda world: world.pool("--backup-writes", "off"), set(LINES)),
        (lambda world: world.pool("--backup-writes", "async", away=True), set(LINES)),
        (lambda world: world.pool("--backup-writes", "sync", away=True), set(LINES)),
        (lambda world: world.pool("--backup-writes", "off", away=True), set(LINES)),
        (lambda world: world.pool("--backup-writes", "sync", overlap=True), set(LINES)),
        (lambda world: world.pool("--proxies", "several"), set(LINES)),
        (lambda world: world.pool("--backup-writes", "off", overlap=True), set(LINES)),
        (lambda world: world.pool_with_replicas(), set(LINES)),
        (lambda world: world.pool_with_replicas("--write", "majority", "--read", "spread"), set(LINES)),
        (lambda world: world.pool_with_replicas("--write", "all", "--read", "near", "--zone", "near"), set(LINES)),
        (lambda world: world.pool_with_replicas(proxies="several"), set(LINES)),
    ],
}  # fmt: skip

#: Routes that get requests for several keys before these are divided by server.
SPLITTERS = (Shard, Router, ChosenReads)

#: Base classes of Backend. None of them sends anything itself.
BASES = {ConnectionOwner, MissedWrites}


def all_routes():
    for module in pkgutil.iter_modules(gmproxy.routing.__path__, "gmproxy.routing."):
        importlib.import_module(module.name)
    found, seen = set(), [Route]
    while seen:
        derived = [kind for kind in seen.pop().__subclasses__() if kind.__module__.startswith("gmproxy.")]
        found.update(derived)
        seen += derived
    return found


def test_every_route_is_here():
    assert all_routes() - BASES == set(CASES)


#: Commands that differ only in name from one that is tested.
ALIKE = {"gats", "replace", "prepend", "decr"}

PARAMETERS = [
    pytest.param(kind, build, cold, id=f"{kind.__name__}{number}-{'cold' if cold else 'warm'}")
    for kind, cases in CASES.items()
    for number, (build, _) in enumerate(cases)
    for cold in ((False, True) if kind in (Fill, FillBeforeWrite, WriteFailover, Replicate, Router) else (False,))
]


#: Which servers are down.
DOWN = (["server"], ["backup"], ["server", "backup"])


def asked_of(kind, build, without=()):
    """The names of the requests that the route made by `build` gets."""
    (names,) = [names for made, names in CASES[kind] if made is build]
    return [name for name in LINES if name in names and name not in without]


def hears_once(kind, build, cold, name, limit, down=()):
    """In every order of events, up to a limit."""

    def run(choose):
        world = World(build, Fault(), cold, down)
        events = play(world, world.route.send, request_of(name, kind not in SPLITTERS), choose)
        assert ABANDONED in events or not any(server.fetches for server in world.servers), (name, events)
        assert internal_errors.count() == 0, (name, events)

    every_order(run, limit)


@pytest.mark.parametrize("kind, build, cold", PARAMETERS)
def test_the_client_hears_once(kind, build, cold):
    for name in asked_of(kind, build, ALIKE):
        hears_once(kind, build, cold, name, 5)
        for down in DOWN:
            hears_once(kind, build, cold, name, 2, down)


@pytest.mark.long
@pytest.mark.parametrize("kind, build, cold", PARAMETERS)
def test_the_client_hears_once_in_every_order(kind, build, cold):
    for name in asked_of(kind, build):
        hears_once(kind, build, cold, name, 400)
        for down in DOWN:
            hears_once(kind, build, cold, name, 50, down)


@pytest.mark.parametrize("kind, build, cold", [case for case in PARAMETERS if case.values[0] is not FillWrites])
def test_it_explains_itself(kind, build, cold):
    """For operators: each step names a server that exists. FillWrites is not on the way of a client's request."""
    world = World(build, Fault(), cold)
    labels = {server.label for server in world.servers + world.backups}
    for is_write in (False, True):
        for key in (b"k0",) if kind not in SPLITTERS else (b"k0", b"k1"):
            way = world.route.explain(key, is_write)
            assert way and all(isinstance(hop, Hop) and hop.step and hop.server in labels and hop.reason for hop in way)


SCHEDULES = {
    "hits": lambda count: HIT,
    "misses": lambda count: MISS,
    "misses, the last first": lambda count: count - len(EVENTS) + MISS,
    "failures": lambda count: FAILURE,
}


def hears_once_whatever_raises(kind, build, cold, name, choose):
    """Each of the other objects raises in turn, at each call, before it has done anything and after."""
    world = World(build, fault := Fault(), cold)
    play(world, world.route.send, request_of(name, kind not in SPLITTERS), choose)
    for who, calls in fault.calls.items():
        for number in range(1, calls + 1):
            for after in (False, True) if who in ("server", "backup") else (False,):
                world = World(build, raises := Fault(who, number, after), cold)
                play(world, world.route.send, request_of(name, kind not in SPLITTERS), choose)
                assert raises.place is None, (name, who, number, after, "it was to raise")


@pytest.mark.parametrize("schedule", ["misses", "failures"])
@pytest.mark.parametrize("kind, build, cold", PARAMETERS)
def test_the_client_hears_once_whatever_raises(kind, build, cold, schedule):
    for name in asked_of(kind, build, ALIKE):
        hears_once_whatever_raises(kind, build, cold, name, SCHEDULES[schedule])


@pytest.mark.long
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind, build, cold", PARAMETERS)
def test_the_client_hears_once_whatever_raises_in_other_orders(kind, build, cold, schedule):
    for name in asked_of(kind, build):
        hears_once_whatever_raises(kind, build, cold, name, SCHEDULES[schedule])


# -- a command for all servers


def flush_of():
    return Request(commands.COMMANDS[b"flush_all"], b"", b"flush_all\r\n")


@pytest.mark.parametrize("proxies", ["one", "several"])
def test_of_a_flush_the_client_hears_once(proxies):
    def run(choose):
        world = World(lambda world: world.pool("--proxies", proxies), Fault())
        request = flush_of()
        events = play(world, world.router.flush_all, request, choose)
        assert ABANDONED in events or all(len(server.sent) > 0 for server in world.servers + world.backups)
        if set(events) == {HIT}:
            assert request.reply == b"OK\r\n" and request.error is None
        elif ABANDONED in events:
            assert request.reply == INTERNAL_ERROR
        elif not {MISS, FAILURE}.isdisjoint(events):
            assert request.reply == b"ERROR\r\n" or request.error is not None

    every_order(run, 100)


@pytest.mark.parametrize("who, calls", [("server", 2), ("backup", 2), ("client", 1)])
@pytest.mark.parametrize("event", [HIT, FAILURE])
def test_of_a_flush_the_client_hears_once_whatever_raises(who, calls, event):
    for number in range(1, calls + 1):
        for after in (False, True) if who != "client" else (False,):
            world = World(lambda world: world.pool(), fault := Fault(who, number, after))
            play(world, world.router.flush_all, flush_of(), lambda count: event)
            assert fault.place is None, "it was to raise"

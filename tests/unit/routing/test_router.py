"""Requests in progress while the hash ring changes: a router over real backends whose connections never open."""

import functools
import logging

import pytest
from support.replication import backup_set, main_set
from support.requests import client_request, parsed_request, request_for
from support.routes import Client, UnconnectedServer, options_of

from gmproxy.config import configuration
from gmproxy.protocol.request import INTERNAL_ERROR
from gmproxy.routing.router import Router
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import server_name
from gmproxy.shared.keys_in_flight import keys_left
from gmproxy.shared.memory import SharedMemory

NOW = 1000.0


class Ring:
    """Two primaries, one backup, auto_eject_hosts. `home` is the primary of `key`, `other` the stand-in server for it."""

    key = b"k"

    def __init__(self, *further):
        self.client = Client()
        self.options = options = options_of("-s", "127.0.0.1:1", "-s", "127.0.0.1:2", "-b", "127.0.0.1:3", "--auto-eject-hosts", *further)
        self.router = Router(options)
        self.primaries = [
            UnconnectedServer(server, options, self.router, logging.getLogger("test"), backed=True) for server in options.server
        ]
        (self.backup,) = [UnconnectedServer(server, options, self.router, logging.getLogger("test")) for server in options.backup]
        self.serve(self.primaries, [self.backup])
        self.home = self.router.primary_of(self.key)
        (self.other,) = [backend for backend in self.primaries if backend is not self.home]

    def serve(self, primaries, backups):
        options = self.options
        place = functools.partial(configuration.placement_for, options, [backend.server for backend in primaries])
        copies = (
            [backup_set(backups, configuration.placement_for(options, [backend.server for backend in backups]).locator)] if backups else []
        )
        self.router.serve(main_set(primaries, place().locator), place, copies)

    def eject(self, backend):
        backend.health.failed(NOW, backend.options.server_failure_limit)
        backend.on_ejected("timeout")

    def restore(self, backend):
        backend.health.probe_succeeded(NOW)
        backend.on_restored()

    def request(self, line):
        request = request_for(line)
        request.sink = self.client
        return request

    def send(self, line):
        request = self.request(line)
        self.router.send(request)
        return request


def answer(backend, reply):
    """`backend` replies to the oldest request that waits for it."""
    request = backend.connections[0].waiting.popleft()
    request.reply = reply
    return backend.request_replied(request, reply.count(b"VALUE "))


def waiting(backend):
    return [request.line for link in backend.connections if link is not None for request in link.waiting]


@pytest.fixture
def ring():
    return Ring()


ADD = b"add k 7 60 1\r\n5\r\n"
FIVE = b"VA 1 f7 t60\r\n5\r\n"


# -- when a server is ejected, and restored


def test_while_it_is_ejected_another_has_its_keys(ring):
    ring.eject(ring.home)
    assert ring.router.primary_of(ring.key) is ring.other
    ring.send(b"set k 0 0 1\r\nx\r\n")
    assert ring.key in ring.home.invalidations and ring.key in ring.other.stand_in_keys
    ring.restore(ring.home)
    assert ring.router.primary_of(ring.key) is ring.home
    assert ring.key in ring.other.invalidations and not ring.other.stand_in_keys
    ring.send(b"set k 0 0 1\r\nx\r\n")
    assert not ring.other.stand_in_keys, "from now on nothing is noted"


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("changes", [False, True])
def test_who_lost_a_key_is_not_filled_with_it(ring, away, changes):
    """The fetch was sent when the key belonged to that server."""
    if away:
        ring.eject(ring.home)
    loser = ring.other if away else ring.home
    ring.send(b"incr k 1\r\n")
    if changes:
        (ring.restore if away else ring.eject)(ring.home)
    answer(ring.backup, FIVE)
    finder = loser if not changes else ring.home if away else ring.other
    assert loser.counters.fills == (not changes)
    assert waiting(finder) == ([] if changes else [ADD]) + [b"incr k 1\r\n"]
    assert finder is loser or waiting(loser) == []
    assert (ring.key in finder.stand_in_keys) == (finder is ring.other)


def test_a_read_that_looked_for_it_where_it_is_no_longer_fills_nobody(ring):
    """The entry for the key there may have been removed: a value that is filled later would be read after the next change of the ring."""
    ring.eject(ring.home)
    ring.send(b"get k\r\n")
    ring.restore(ring.home)
    answer(ring.other, b"END\r\n")
    answer(ring.backup, FIVE)
    assert ring.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"]
    assert waiting(ring.other) == waiting(ring.home) == []
    assert ring.key not in ring.other.stand_in_keys and not ring.other.fetches


def test_a_read_on_the_way_when_the_backup_is_exchanged_fills_nobody(ring):
    """The backup of the fetch receives no more copies, and may lack a write."""
    ring.send(b"get k\r\n")
    new = UnconnectedServer(ring.backup.server, ring.options, ring.router, logging.getLogger("test"))
    ring.serve(ring.primaries, [new])
    answer(ring.home, b"END\r\n")
    answer(ring.backup, FIVE)
    assert ring.client.heard == [b"VALUE k 7 1\r\n5\r\nEND\r\n"]
    assert waiting(ring.home) == [] and not ring.home.fetches


def test_what_is_being_fetched_when_the_ring_changes_is_not_filled(ring):
    ring.eject(ring.home)
    ring.send(b"incr k 1\r\n")
    assert list(ring.other.fetches) == [ring.key] and waiting(ring.backup) == [b"mg k f t v\r\n"]
    ring.restore(ring.home)
    assert not ring.other.fetches


def test_a_change_that_waited_for_its_key_goes_to_who_has_it_then(ring):
    ring.eject(ring.home)
    change = ring.send(b"incr k 1\r\n")
    assert ring.router.held == {change} and waiting(ring.other) == []
    ring.restore(ring.home)
    answer(ring.backup, b"EN\r\n")
    assert not ring.router.held
    assert (waiting(ring.home), waiting(ring.other)) == ([b"incr k 1\r\n"], [])


def test_a_change_under_way_when_the_ring_changes_is_noted_when_it_is_answered(ring):
    ring.eject(ring.home)
    ring.send(b"set k 0 0 1\r\nx\r\n")
    ring.restore(ring.home)
    ring.other.invalidations.clear()  # the key was deleted there before the write was executed
    answer(ring.other, b"STORED\r\n")
    assert ring.key in ring.other.invalidations
    assert ring.client.heard == [b"STORED\r\n"]


def test_what_is_noted_is_no_longer_being_fetched(ring):
    ring.send(b"incr k 1\r\n")
    assert ring.home.fetches
    ring.home.missed_key(ring.key)
    assert not ring.home.fetches


# -- a request in flight ends on the route on which it started


@pytest.mark.parametrize("line, reply", [(b"get k\r\n", b"VALUE k 0 1\r\n1\r\nEND\r\n"), (b"delete k\r\n", b"DELETED\r\n")])
def test_without_backups_any_more_a_request_in_flight_still_has_those_it_began_with(ring, line, reply):
    ring.send(line)
    ring.serve(ring.primaries, [])
    ring.home.connections[0].fail("timeout")
    assert waiting(ring.backup) == [line] and ring.client.heard == []
    answer(ring.backup, reply)
    assert ring.client.heard == [reply]
    ring.send(line)
    ring.home.connections[0].fail("timeout")
    assert ring.client.heard[1:] == [("timeout", ring.home.label)]


def test_a_request_in_flight_to_a_server_that_is_none_any_more_ends_there(ring):
    ring.send(b"get k\r\n")
    ring.serve([ring.other], [ring.backup])
    assert ring.router.primary_of(ring.key) is ring.other
    answer(ring.home, b"VALUE k 0 1\r\n1\r\nEND\r\n")
    assert ring.client.heard == [b"VALUE k 0 1\r\n1\r\nEND\r\n"] and waiting(ring.other) == []


def test_an_outcome_is_told_to_the_backup_that_there_was(ring):
    ring.home.ask_backup_on_miss = False
    ring.send(b"add k 0 0 1\r\nx\r\n")
    ring.serve(ring.primaries, [])
    assert len(ring.router.undecided) == 1
    answer(ring.home, b"STORED\r\n")
    assert waiting(ring.backup) == [b"set k 0 0 1\r\nx\r\n"] and len(ring.router.undecided) == 0
    assert ring.client.heard == [b"STORED\r\n"]


def test_a_change_of_which_the_backup_is_told_by_the_route_before_overtakes_one_of_the_next(ring):
    """Writes whose outcome is not known belong to the pool, not to a route."""
    ring.home.ask_backup_on_miss = False
    ring.send(b"add k 0 0 1\r\nx\r\n")
    ring.serve(ring.primaries, [ring.backup])
    ring.home.ask_backup_on_miss = False
    ring.send(b"set k 0 0 1\r\ny\r\n")
    answer(ring.home, b"STORED\r\n")
    assert waiting(ring.backup) == [b"set k 0 0 1\r\ny\r\n", b"delete k\r\n"]


# -- no server replies


@pytest.mark.parametrize(
    "line, on_get_error, reply",
    [
        (b"get k\r\n", "error", b"SERVER_ERROR timeout 127.0.0.1:1\r\n"),
        (b"get k\r\n", "miss", b"END\r\n"),
        (b"mg k v\r\n", "miss", b"EN\r\n"),
        (b"set k 0 0 1\r\nx\r\n", "miss", b"SERVER_ERROR timeout 127.0.0.1:1\r\n"),
    ],
)
def test_what_the_client_gets_then(line, on_get_error, reply):
    ring = Ring("--on-get-error", on_get_error)
    request = ring.request(line)
    request.fail("timeout", "127.0.0.1:1")
    assert ring.router.reply_to_failure(request) == reply
    assert ring.router.counters.misses_for_errors == (reply in (b"END\r\n", b"EN\r\n"))


def test_for_a_miss_it_gets_what_others_had():
    ring = Ring("--on-get-error", "miss")
    request = ring.request(b"get k\r\n")
    request.reply = b"VALUE j 0 1\r\n1\r\nEND\r\n"
    request.fail("timeout", "127.0.0.1:1")
    assert ring.router.reply_to_failure(request) == request.reply


def test_an_abandoned_change_is_deleted_everywhere(ring):
    change = ring.send(b"incr k 1\r\n")
    assert ring.router.abandon(change) is ring.client
    assert ring.client.heard == [INTERNAL_ERROR] and not ring.router.held
    assert ring.key in ring.home.invalidations and ring.key in ring.backup.invalidations
    assert ring.router.abandon(change) is None
    answer(ring.backup, FIVE)
    assert b"incr k 1\r\n" not in waiting(ring.home) and len(ring.client.heard) == 1


# -- a request from another gmproxy


@pytest.mark.parametrize("line", [b"get k\r\n", b"set k 0 0 1\r\nx\r\n", b"incr k 1\r\n", b"add k 0 0 1\r\nx\r\n", b"gat 9 k\r\n"])
@pytest.mark.parametrize("away", [False, True])
def test_another_gmproxy_is_answered_by_our_primaries_alone(ring, line, away):
    if away:
        ring.eject(ring.home)
    asked = ring.other if away else ring.home
    request = ring.request(line)
    ring.router.send_to_own(request)
    assert list(asked.connections[0].waiting) == [request] and waiting(ring.backup) == []
    assert (ring.key in asked.stand_in_keys) == (away and request.command.is_write), "what it changes is noted as if a client did"
    asked.connections[0].fail("timeout")
    assert waiting(ring.backup) == [] and ring.client.heard == [("timeout", asked.label)]


@pytest.mark.parametrize("way", ["send", "send_to_own"])
def test_the_sampler_says_how_many_to_skip(ring, way):
    class Sampler:
        seen = []

        def sample_request(self, request):
            self.seen.append(request.line)
            return 2

    ring.router.sampler = sampler = Sampler()
    for number in range(7):
        getattr(ring.router, way)(ring.request(b"get k%d\r\n" % number))
    assert sampler.seen == [b"get k0\r\n", b"get k3\r\n", b"get k6\r\n"]


# -- together with other workers


class SharedRing(Ring):
    """A Ring, and another worker, of which `notes` are its ChangeNotes.

    theirs   the column of the other worker
    """

    def __init__(self, *further):
        super().__init__(*further)
        memory = SharedMemory.create()
        self.column, self.theirs = SharedColumn(memory), SharedColumn(memory)
        self.notes = self.theirs.notes
        for backend in (*self.primaries, self.backup):
            role = "backup" if backend is self.backup else "primary"
            backend.share(self.column, "shop", role)
            backend.share_ejections(self.column.ejections_of(server_name("shop", role, backend.label)))
        self.serve(self.primaries, [self.backup])
        self.router.share(self.column, "shop", True)

    def eject_elsewhere(self, backend, ejected=True):
        self.theirs.ejections_of(server_name("shop", "primary", backend.label)).publish(ejected)

    def flush(self):
        request = parsed_request(b"flush_all\r\n")
        request.sink = self.client
        self.router.flush_all(request)
        return request

    @property
    def servers(self):
        return [*self.primaries, self.backup]


@pytest.fixture
def shared():
    return SharedRing("--on-miss", "never")


WAYS = {
    "a request": lambda ring: ring.send(b"set k 0 0 1\r\nx\r\n"),
    "that of another gmproxy": lambda ring: ring.router.send_to_own(ring.request(b"set k 0 0 1\r\nx\r\n")),
    "a flush_all": lambda ring: ring.flush(),
    "a tick": lambda ring: ring.router.follow_ejections(),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_ejection_by_another_worker_is_followed_before_anything_is_routed(shared, way):
    shared.eject_elsewhere(shared.home)
    assert shared.router.primary_of(shared.key) is shared.home, "nobody has looked yet"
    WAYS[way](shared)
    assert shared.home.health.ejected and shared.router.primary_of(shared.key) is shared.other
    assert waiting(shared.home) == []
    shared.eject_elsewhere(shared.home, False)
    WAYS[way](shared)
    assert not shared.home.health.ejected and shared.router.primary_of(shared.key) is shared.home
    assert (waiting(shared.home) == []) == (way == "a tick")


def test_without_a_new_stamp_no_server_is_looked_at(shared, monkeypatch):
    looked = []
    monkeypatch.setattr(type(shared.home), "follow_ejections", lambda backend: looked.append(backend))
    shared.send(b"set k 0 0 1\r\nx\r\n")
    shared.router.follow_ejections()
    assert looked == []
    shared.eject_elsewhere(shared.home)
    shared.router.follow_ejections()
    shared.router.follow_ejections()
    assert looked == shared.servers


def test_one_that_could_not_be_followed_is_followed_at_the_next_request(shared, monkeypatch):
    shared.eject_elsewhere(shared.home)
    with monkeypatch.context() as patched:
        patched.setattr(type(shared.home), "follow_ejections", lambda backend: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            shared.send(b"get k\r\n")
    shared.send(b"get k\r\n")
    assert shared.home.health.ejected and waiting(shared.home) == []


def test_after_a_reload_that_shares_them_no_longer_each_decides_alone(shared):
    shared.router.share(shared.column, "shop", False)
    shared.eject_elsewhere(shared.home)
    shared.send(b"set k 0 0 1\r\nx\r\n")
    assert not shared.home.health.ejected and waiting(shared.home)


def test_all_servers_that_may_have_a_key(shared):
    assert set(shared.router.servers_of(shared.key)) == {shared.home, shared.backup}
    shared.eject(shared.home)
    assert set(shared.router.servers_of(shared.key)) == {shared.home, shared.other, shared.backup}
    shared.serve(shared.primaries, [])
    assert shared.backup not in shared.router.servers_of(shared.key)


# -- writes that waited for the fill of another worker


@pytest.mark.parametrize("keys", [b"k", b"k other", b"k k other"])
@pytest.mark.parametrize("command", [b"gat", b"gats"])
def test_a_read_that_touches_several_keys_is_sent_once_after_it_has_waited(shared, command, keys):
    """It was split before it was held, and is split again after that."""
    number = b" 1" if command == b"gats" else b""
    fill = shared.notes.begin_fill(b"k", shared.home.tag)
    request = client_request(b"%b 60 %b\r\n" % (command, keys))
    request.sink = shared.client
    shared.router.send(request)
    shared.router.release_held_writes(NOW)
    assert not any(line.startswith(command) and b" k" in line for server in shared.servers for line in waiting(server))
    shared.notes.end_note(fill)
    shared.router.release_held_writes(NOW)
    sent = b"".join(line for server in shared.primaries for line in waiting(server))
    assert sent.count(b"\r\n") == sent.count(command + b" 60 ") and sent.split().count(b"k") == keys.split().count(b"k")
    assert all(line.startswith(b"touch ") for line in waiting(shared.backup))
    for server in shared.primaries:
        for line in waiting(server):
            values = [b"VALUE %b 0 1%b\r\nx\r\n" % (key, number) for key in line.split()[2:]]
            answer(server, b"".join(values) + b"END\r\n")
    reply = b"".join(b"VALUE %b 0 1%b\r\nx\r\n" % (key, number) for key in keys.split())
    assert shared.client.heard == [reply + b"END\r\n"]


# -- flush_all while another worker fills a primary


FLUSH = b"flush_all\r\n"


def test_a_flush_all_waits_for_the_fills_of_other_workers(shared):
    """Of any key. It is a change of every key from the time at which it is sent."""
    fill = shared.notes.begin_fill(b"any", 1)
    shared.flush()
    assert [waiting(server) for server in shared.servers] == [[]] * 3 and not shared.notes.are_under_way(b"k")
    shared.router.release_held_writes(NOW)
    assert [waiting(server) for server in shared.servers] == [[]] * 3
    shared.notes.end_note(fill)
    shared.router.release_held_writes(NOW)
    assert [waiting(server) for server in shared.servers] == [[FLUSH]] * 3 and shared.notes.are_under_way(b"k")
    for server in shared.servers:
        assert shared.client.heard == []
        answer(server, b"OK\r\n")
    assert shared.client.heard == [b"OK\r\n"] and not shared.notes.are_under_way(b"k")
    assert not any(server.behind for server in shared.servers)


def test_a_flush_all_that_has_waited_for_too_long(shared):
    """The fill may still arrive behind it: so the primaries are flushed once more."""
    shared.notes.begin_fill(b"any", 1)
    shared.flush()
    shared.router.release_held_writes(NOW)
    shared.router.release_held_writes(NOW + shared.options.timeout)
    assert [waiting(server) for server in shared.servers] == [[FLUSH]] * 3
    assert [server.invalidations.overflowed for server in shared.servers] == [True, True, False]


def test_a_flush_all_that_is_abandoned_while_it_waits(shared):
    fill = shared.notes.begin_fill(b"any", 1)
    request = shared.flush()
    shared.router.abandon(request)
    shared.notes.end_note(fill)
    shared.router.release_held_writes(NOW)
    assert shared.client.heard == [INTERNAL_ERROR] and [waiting(server) for server in shared.servers] == [[]] * 3


def test_the_session_of_a_flush_all_that_fails_at_once_is_resumed(shared):
    """In the tick in which it is released: nothing else would."""
    resumed = []
    fill = shared.notes.begin_fill(b"any", 1)
    request = shared.flush()
    request.sink.resume = lambda: resumed.append(request)
    for server in shared.servers:
        server.health.eject_by_hand(NOW)
    shared.notes.end_note(fill)
    shared.router.release_held_writes(NOW)
    assert resumed == [request] and len(shared.client.heard) == 1
    assert not shared.notes.are_under_way(b"k")


@pytest.mark.parametrize("outcome", ["reply", "failure", "internal error"])
def test_whatever_becomes_of_a_flush_all_its_note_ends(shared, outcome):
    shared.flush()
    assert shared.notes.are_under_way(b"k")
    for server in shared.servers:
        request = server.connections[0].waiting.popleft()
        if outcome == "reply":
            request.reply = b"OK\r\n"
            server.request_replied(request, 0)
        elif outcome == "failure":
            server.request_failed(request, "timeout", True, False)
        else:
            server.request_abandoned(request)
    assert not shared.notes.are_under_way(b"k") and len(shared.client.heard) == 1


# -- the journal


class Journal:
    """Records. `unwritten`: the number of records that are not written."""

    def __init__(self):
        self.unwritten = 0
        self.writes = 0

    def write(self):
        self.unwritten = 0
        self.writes += 1


def test_the_journal_is_written_if_there_is_something_to_write(shared):
    shared.router.write_journal()
    shared.column.journal = journal = Journal()
    shared.router.share(shared.column, "shop", True)
    shared.router.write_journal()
    assert journal.writes == 0
    journal.unwritten = 2
    note = shared.column.notes.begin_change(b"k", 1, PRIMARY_WORD)
    shared.column.notes.journal = journal
    shared.column.notes.end_note(note)
    assert len(list(keys_left(shared.column.memory.keys_of(shared.column.number)))) == 1
    shared.router.write_journal()
    shared.router.write_journal()
    assert journal.writes == 1
    assert not list(keys_left(shared.column.memory.keys_of(shared.column.number))), "what was missed is in the journal"

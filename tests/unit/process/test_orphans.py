"""What an orphaned column has is taken over: by pools of real servers that are never connected, from memory and files that other processes left."""

import dataclasses
import os

import gevent
import pytest
from support.forked import Forked

from gmproxy.config import configuration
from gmproxy.errors import StartError
from gmproxy.pool import Pool
from gmproxy.process import orphans as orphans_module
from gmproxy.process.orphans import Orphans
from gmproxy.process.worker_context import WorkerContext
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import BACKUP, NOTHING, PRIMARY, STAND_IN, part_of, server_name
from gmproxy.shared.journal_directory import JournalDirectory
from gmproxy.shared.keys_in_flight import keys_left, tag_of
from gmproxy.shared.memory import KEYS_IN_FLIGHT, SharedMemory

TWO = ("-s", "127.0.0.1:1", "-s", "127.0.0.1:2")
BACKED = (*TWO, "-b", "127.0.0.1:3")
EJECTING = (*TWO, "--auto-eject-hosts")

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"


class Service:
    """The memory of a service, with a journal or not; one worker that has died, and one that lives.

    pools   those of the living worker, by name
    """

    def __init__(self, directory):
        self.memory = SharedMemory.create()
        self.directory = directory
        self.dead = SharedColumn(self.memory, directory)
        self.column = SharedColumn(self.memory, directory)
        self.pools = {}
        self.orphans = Orphans(self.column)

    def add_pool(self, name, *arguments):
        (config,), _ = configuration.parse(list(arguments), {})
        self.pools[name] = pool = Pool(dataclasses.replace(config, name=name), WorkerContext(1, 2, shared=self.column))
        return {backend.label: backend for backend in pool.backends}

    def leave_pending(self, name, *keys):
        """The dead worker had these keys pending on the server; without any, all."""
        marks = self.dead.marks_of(name)
        if not keys:
            marks.add_everything()
        for key in keys:
            marks.add_part(part_of(key))
        if self.dead.journal is not None:
            for key in keys:
                self.dead.journal.note(name.encode(), key)
            if not keys:
                self.dead.journal.note_everything(name.encode())

    def die(self):
        if self.dead.journal is not None:
            self.dead.journal.write()
        self.memory.leave(self.dead.number)

    def adopt(self):
        self.orphans.adopt_all(list(self.pools.values()))

    def is_adopted(self):
        return self.memory.take_orphans() == [] and self.dead.number in self.memory.claim(10)


@pytest.fixture
def made():
    """made(directory): a Service whose servers are closed after the test."""
    services = []

    def make(directory=None):
        services.append(Service(directory))
        return services[-1]

    yield make
    for service in services:
        for pool in service.pools.values():
            pool.shut_down()


@pytest.fixture
def directory(tmp_path):
    directory = JournalDirectory(str(tmp_path / "journal"))
    yield directory
    directory.close()


def pending(backend):
    """Keys that are to be deleted on the server; None for all."""
    keys = backend.invalidations.pending()
    return keys if keys is None else set(keys)


# -- keys in flight


def test_keys_in_flight_are_pending_on_all_servers_that_may_have_them(made):
    service = made()
    servers = service.add_pool("shop", *BACKED)
    keys = [b"%d" % number for number in range(20)]
    for key in keys:
        service.dead.notes.begin_change(key, tag_of("shop"), PRIMARY_WORD)
    service.die()
    service.adopt()
    router = service.pools["shop"].router
    for label in (A, B):
        assert pending(servers[label]) == {key for key in keys if router.primary_of(key).label == label}
    assert pending(servers[C]) == set(keys)
    assert all(backend.behind and backend.unsettled for backend in servers.values())
    assert not service.column.notes.are_under_way(b"1") and service.is_adopted()


def test_only_in_their_own_pool(made):
    service = made()
    shop, blog = service.add_pool("shop", *BACKED), service.add_pool("blog", *BACKED)
    service.dead.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD)
    service.dead.notes.begin_change(b"of a pool that was removed", tag_of("gone"), PRIMARY_WORD)
    service.die()
    service.adopt()
    assert pending(shop[C]) == {b"k"} and not any(pending(backend) for backend in blog.values())
    assert service.is_adopted()


def test_also_in_the_ring_of_all_servers(made):
    """A key that has a stand-in server now was sent to its own server, perhaps."""
    service = made()
    servers = service.add_pool("shop", *EJECTING)
    router = service.pools["shop"].router
    home = router.primary_of(b"k")
    home.health.failed(1000.0, home.options.server_failure_limit)
    home.on_ejected("timeout")
    assert router.primary_of(b"k") is not home
    service.dead.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD)
    service.die()
    service.adopt()
    assert pending(servers[A]) == pending(servers[B]) == {b"k"}


def test_more_keys_in_flight_than_there_is_room_for(made):
    """Which keys is not known: every key of pools in which a key has several servers."""
    service = made()
    shop, plain = service.add_pool("shop", *BACKED), service.add_pool("plain", *TWO)
    for number in range(KEYS_IN_FLIGHT):
        service.dead.notes.begin_change(b"%d" % number, tag_of("shop"), PRIMARY_WORD)
    service.die()
    service.adopt()
    assert [pending(backend) for backend in shop.values()] == [None] * 3
    assert not any(backend.behind for backend in plain.values())


def test_binary_keys(made):
    service = made()
    servers = service.add_pool("shop", *BACKED)
    key = bytes(range(6, 256))
    service.dead.notes.begin_fill(key, tag_of("shop"))
    service.die()
    service.adopt()
    assert pending(servers[C]) == {key}


# -- pending invalidations, from the marks


ROLES = [
    (server_name("shop", PRIMARY, A), A),
    (server_name("shop", BACKUP, C), C),
    (server_name("shop", STAND_IN, B), B),
    (server_name("shop", STAND_IN, C), C),
]


@pytest.mark.parametrize("name, label", ROLES)
def test_without_a_journal_a_server_with_pending_keys_is_flushed(made, name, label):
    service = made()
    servers = service.add_pool("shop", *BACKED)
    other = service.add_pool("blog", *BACKED)
    service.leave_pending(name, b"k")
    service.die()
    service.adopt()
    assert {of: pending(backend) for of, backend in servers.items()} == {of: None if of == label else set() for of in servers}
    assert not any(backend.behind for backend in other.values())
    assert all(backend.unsettled for backend in servers.values())
    assert service.memory.state_of(name, service.dead.number) == NOTHING and service.is_adopted()


def test_a_server_of_a_pool_in_which_a_key_has_one_server_is_not_flushed(made):
    """The writes that it missed were answered with an error."""
    service = made()
    servers = service.add_pool("plain", *TWO)
    service.leave_pending(server_name("plain", PRIMARY, A), b"k")
    service.die()
    service.adopt()
    assert not any(backend.behind for backend in servers.values()) and service.is_adopted()


def test_nothing_was_pending(made, caplog):
    caplog.set_level("INFO")
    service = made()
    shop, plain = service.add_pool("shop", *BACKED), service.add_pool("plain", *TWO)
    service.die()
    service.adopt()
    assert not any(backend.behind for backend in (*shop.values(), *plain.values()))
    assert all(backend.unsettled for backend in shop.values()), "its last writes may not have arrived"
    assert not any(backend.unsettled for backend in plain.values())
    assert f"orphan adopted column={service.dead.number} keys=0" in caplog.text


# -- pending invalidations, from the journal


@pytest.mark.parametrize("name, label", ROLES)
def test_with_a_journal_its_keys_are_taken_over(made, directory, name, label, caplog):
    caplog.set_level("INFO")
    service = made(directory)
    servers = service.add_pool("shop", *BACKED)
    service.leave_pending(name, b"k", b"l")
    service.die()
    service.adopt()
    assert {of: pending(backend) for of, backend in servers.items()} == {of: {b"k", b"l"} if of == label else set() for of in servers}
    assert f"orphan adopted column={service.dead.number} keys=2" in caplog.text
    number = service.column.number
    assert sorted(set(os.listdir(directory.path)) - {"lock"}) == [f"column-{number}", f"in-flight-{number}"]
    role = BACKUP if label == C else PRIMARY
    assert directory.read(number).keys == {server_name("shop", role, label).encode(): {b"k", b"l"}}, "they are in the journal of the heir"
    assert service.is_adopted()


def test_a_journal_that_says_everything(made, directory):
    service = made(directory)
    servers = service.add_pool("shop", *BACKED)
    service.leave_pending(server_name("shop", PRIMARY, A))
    service.leave_pending(server_name("shop", PRIMARY, B), b"k")
    service.die()
    service.adopt()
    assert [pending(servers[label]) for label in (A, B, C)] == [None, {b"k"}, set()]


def test_a_damaged_journal(made, directory):
    service = made(directory)
    shop, plain = service.add_pool("shop", *BACKED), service.add_pool("plain", *TWO)
    ejecting = service.add_pool("ejecting", *EJECTING)
    service.leave_pending(server_name("plain", PRIMARY, A), b"k")
    service.die()
    path = os.path.join(directory.path, f"column-{service.dead.number}")
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    service.adopt()
    assert [pending(backend) for backend in (*shop.values(), *ejecting.values())] == [None] * 5
    assert None not in [pending(backend) for backend in plain.values()], "its writes were answered with an error"
    assert service.is_adopted()


def test_the_keys_in_flight_in_its_file(made, directory):
    service = made(directory)
    servers = service.add_pool("shop", *BACKED)
    service.dead.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD)
    assert not list(keys_left(service.memory.keys_of(service.dead.number))), "they are in the file alone"
    service.die()
    service.adopt()
    assert pending(servers[C]) == {b"k"}


def test_a_damaged_file_of_keys_in_flight(made, directory):
    service = made(directory)
    shop, plain = service.add_pool("shop", *BACKED), service.add_pool("plain", *TWO)
    service.die()
    os.truncate(os.path.join(directory.path, f"in-flight-{service.dead.number}"), 10)
    service.adopt()
    assert [pending(backend) for backend in shop.values()] == [None] * 3
    assert not any(backend.behind for backend in plain.values())


def test_very_many_keys(made, directory, monkeypatch):
    """Other greenlets have their turn meanwhile."""
    monkeypatch.setattr(orphans_module, "AT_ONCE", 10)
    service = made(directory)
    servers = service.add_pool("shop", *BACKED)
    keys = {b"%d" % number for number in range(105)}
    service.leave_pending(server_name("shop", PRIMARY, A), *keys)
    service.die()
    turns = []

    def other():
        while True:
            turns.append(len(servers[A].invalidations))
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    service.adopt()
    greenlet.kill()
    assert pending(servers[A]) == keys and len(set(turns)) > 5


# -- failures


def test_until_it_is_adopted_its_notes_and_marks_hold(made, monkeypatch, internal_errors_counted):
    """An exception, wherever it is raised, leaves the column an orphan; the next call adopts it."""
    service = made()
    servers = service.add_pool("shop", *BACKED)
    service.leave_pending(server_name("shop", PRIMARY, A), b"k")
    service.dead.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD)
    service.die()
    for owner, name in ((orphans_module, "_inherit"), (orphans_module, "keys_left"), (SharedColumn, "left_by"), (SharedColumn, "forget")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, lambda *arguments: 1 / 0)
            service.adopt()
        assert service.column.notes.are_under_way(b"k")
        assert service.memory.state_of(server_name("shop", PRIMARY, A), service.dead.number) != NOTHING
    assert internal_errors_counted() == 4
    service.adopt()
    assert pending(servers[A]) is None and pending(servers[C]) == {b"k"}
    assert not service.column.notes.are_under_way(b"k") and service.is_adopted()


def test_one_that_fails_does_not_prevent_the_others(made, monkeypatch, internal_errors_counted):
    service = made()
    service.add_pool("shop", *BACKED)
    second = SharedColumn(service.memory)
    service.die()
    service.memory.leave(second.number)
    left_by = SharedColumn.left_by

    def fail_once(column, number):
        if number == service.dead.number:
            raise ValueError("of the test")
        return left_by(column, number)

    monkeypatch.setattr(SharedColumn, "left_by", fail_once)
    service.adopt()
    assert internal_errors_counted() == 1
    assert service.memory.take_orphans() == [service.dead.number]


def test_the_lock_is_held_by_a_process_that_is_stopped(made, monkeypatch, caplog):
    service = made()
    servers = service.add_pool("shop", *BACKED)
    service.dead.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD)
    service.die()

    def refuse(*arguments):
        raise StartError("another process of the service holds the lock of the shared memory")

    with monkeypatch.context() as patched:
        patched.setattr(SharedMemory, "take_orphans", refuse)
        service.adopt()
    assert "orphans not adopted reason=another process of the service holds the lock of the shared memory" in caplog.text
    assert not servers[C].behind and service.column.notes.are_under_way(b"k")
    service.adopt()
    assert pending(servers[C]) == {b"k"}


def test_two_workers_adopt_a_killed_one_once(made):
    service = made()
    servers = service.add_pool("shop", *BACKED)

    def begin():
        column = SharedColumn(service.memory)
        column.notes.begin_change(b"in flight", tag_of("shop"), PRIMARY_WORD)
        return column.number

    with Forked(begin=begin) as process:
        number = process.call("begin")

    def adopt():
        other = Service.__new__(Service)
        other.memory, other.pools, other.directory = service.memory, {}, None
        other.column = SharedColumn(service.memory)
        other.orphans = Orphans(other.column)
        backends = other.add_pool("shop", *BACKED)
        other.adopt()
        return pending(backends[C])

    with Forked(adopt=adopt) as one, Forked(adopt=adopt) as two:
        one.begin("adopt")
        two.begin("adopt")
        found = [one.result(), two.result()]
        assert sorted(found, key=len) == [set(), {b"in flight"}]
        service.adopt()
        assert pending(servers[C]) == set(), "none is left for a third"
        assert service.memory.claim() != [number] or not service.column.notes.are_under_way(b"in flight")

"""What a service finds when it starts: nothing, the files of a journal, or what its predecessor passes on at an upgrade."""

import dataclasses
import os

import pytest
from support.forked import Forked

from gmproxy.config import configuration
from gmproxy.errors import StartError
from gmproxy.process.service_memory import LOCK, MEMORY, ServiceMemory
from gmproxy.shared import journal_directory
from gmproxy.shared.changes import PRIMARY_WORD
from gmproxy.shared.invalidation_marks import BACKUP, EVERYTHING, GUTTER, NOTHING, PRIMARY, SOME, STAND_IN, replica_role, server_name
from gmproxy.shared.keys_in_flight import tag_of
from gmproxy.shared.memory import MIN_COLUMNS

SERVERS = ("-s", "127.0.0.1:1", "-s", "127.0.0.1:2")
BACKED = (*SERVERS, "-b", "127.0.0.1:3")

A, B, C = (
    server_name("shop", PRIMARY, "127.0.0.1:1"),
    server_name("shop", PRIMARY, "127.0.0.1:2"),
    server_name("shop", BACKUP, "127.0.0.1:3"),
)


def config_of(*arguments, name="shop"):
    (config,), _ = configuration.parse(list(arguments), {})
    return dataclasses.replace(config, name=name)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal")


@pytest.fixture
def started():
    """started(configs, workers, handed_over): a ServiceMemory whose directory is closed after the test."""
    made = []

    def start(*configs, workers=1, handed_over=None):
        made.append(ServiceMemory(configs, workers, handed_over or {}))
        return made[-1]

    yield start
    for service in made:
        if service.directory is not None:
            service.directory.close()


def handed_over(service):
    """The descriptors of `service` as its successor has them: copies, which are inheritable."""
    return {name: os.dup(descriptor) for name, descriptor in service.descriptors().items()}


# -- a service without a predecessor


def test_without_a_journal(started):
    service = started(config_of(*BACKED))
    assert service.directory is None and service.memory.columns == MIN_COLUMNS
    assert set(service.descriptors()) == {MEMORY}
    assert [service.join().number, service.join().number] == [0, 1]


def test_the_number_of_workers_decides_the_number_of_columns(started):
    assert started(config_of(*BACKED), workers=100).memory.columns == 400


def test_with_a_journal_each_process_has_its_files(started, path):
    service = started(config_of(*BACKED, "--journal-dir", path))
    assert service.join().journal is not None
    assert set(service.descriptors()) == {MEMORY, LOCK}
    assert sorted(os.listdir(path)) == ["column-0", "in-flight-0", "lock"]


def test_a_second_service_on_the_same_directory(started, path, monkeypatch):
    monkeypatch.setattr(journal_directory, "LOCK_WAIT", 0)
    config = config_of(*BACKED, "--journal-dir", path)
    started(config)
    with pytest.raises(StartError, match="in use by another gmproxy"):
        started(config)


# -- what the processes of the service left when it ran last


def leave(*configs, act):
    """A service whose process does `act(column)` and is killed."""

    def run():
        service = ServiceMemory(configs, 1, {})
        column = service.join()
        column.journal.declare([A.encode(), B.encode(), C.encode()])
        act(column)
        column.journal.write()
        KEPT.append((service, column))

    with Forked(run=run) as process:
        assert process.call("run") is None


#: What a forked process has: its locks end with it.
KEPT = []


def states(service, number, *names):
    return [service.memory.state_of(name, number) for name in names]


def test_what_was_pending_is_marked_before_a_worker_starts(started, path):
    config = config_of(*BACKED, "--journal-dir", path)
    leave(config, act=lambda column: (column.journal.note(A.encode(), b"k"), column.journal.note_everything(C.encode())))
    service = started(config)
    assert states(service, 0, A, B, C) == [SOME, NOTHING, EVERYTHING]
    column = service.join()
    assert column.number == 1, "the first one is an orphan"
    assert column.marks_of(A).others_have(b"k") and not column.marks_of(B).others_have(b"k") and column.marks_of(C).others_have(b"other")
    assert service.memory.take_orphans() == [0]
    assert column.left_by(0).pending.keys == {A.encode(): {b"k"}}


def test_keys_in_flight_are_marked_on_every_server_of_their_pool(started, path):
    configs = config_of(*BACKED, "--journal-dir", path), config_of(*BACKED, name="blog")
    leave(*configs, act=lambda column: column.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD))
    service = started(*configs)
    stand_in = server_name("shop", STAND_IN, "127.0.0.1:1")
    assert states(service, 0, A, B, C, stand_in) == [SOME] * 4
    assert all(service.join().marks_of(name).others_have(b"k") for name in (A, B, C))
    assert states(service, 0, server_name("blog", PRIMARY, "127.0.0.1:1")) == [NOTHING]


def test_keys_in_flight_are_marked_in_every_set_of_their_pool(started, path):
    config = config_of(*SERVERS, "--replica", "127.0.0.1:4", "--replica", "127.0.0.1:5", "--failover-ttl", "9", "--journal-dir", path)
    config = dataclasses.replace(config, gutter=config_of("-s", "127.0.0.1:6"))
    leave(config, act=lambda column: column.notes.begin_change(b"k", tag_of("shop"), PRIMARY_WORD))
    service = started(config)
    in_roles = [(replica_role(1), 4), (replica_role(2), 5), (GUTTER, 6)]
    names = [A, B, *(server_name("shop", role, f"127.0.0.1:{port}") for role, port in in_roles)]
    names += [server_name("shop", STAND_IN, f"127.0.0.1:{port}") for port in (1, 2, 4, 5, 6)]
    assert states(service, 0, *names) == [SOME] * len(names)
    assert server_name("shop", replica_role(1), "127.0.0.1:5") == server_name("shop", PRIMARY, "127.0.0.1:5"), "in whatever set it is"


def test_nothing_was_left(started, path):
    config = config_of(*BACKED, "--journal-dir", path)
    leave(config, act=lambda column: None)
    service = started(config)
    assert service.memory.take_orphans() == [0], "its last writes may not have arrived"
    assert states(service, 0, A, B, C) == [NOTHING] * 3


def test_more_columns_than_a_new_service_has(started, path):
    config = config_of(*BACKED, "--journal-dir", path)
    started(config).directory.close()
    for name in (f"column-{MIN_COLUMNS + 6}", "column-2"):
        with open(os.path.join(path, name), "wb"):
            pass
    service = started(config)
    assert service.memory.columns == MIN_COLUMNS + 7
    assert service.memory.take_orphans() == [2, MIN_COLUMNS + 6]
    assert states(service, 2, A, C) == [EVERYTHING] * 2, "an empty file is damaged"


@pytest.mark.parametrize("file", ["column-0", "in-flight-0"])
def test_a_damaged_file(started, path, file):
    """All servers are to be flushed of pools in which a key has several. In other pools a write that a server misses is not acknowledged."""
    configs = (
        config_of(*BACKED, "--journal-dir", path),
        config_of(*SERVERS, name="plain"),
        config_of(*SERVERS, "--auto-eject-hosts", name="eject"),
        config_of(*SERVERS, "--replica", "127.0.0.1:4", name="copied"),
    )
    leave(*configs, act=lambda column: column.journal.note(A.encode(), b"k"))
    os.truncate(os.path.join(path, file), 20)
    service = started(*configs)
    assert states(service, 0, A, B, C) == [EVERYTHING] * 3
    assert states(service, 0, *(server_name("eject", role, "127.0.0.1:1") for role in (PRIMARY, STAND_IN))) == [EVERYTHING] * 2
    assert states(service, 0, server_name("copied", PRIMARY, "127.0.0.1:1"), server_name("copied", replica_role(1), "127.0.0.1:4")) == [
        EVERYTHING,
        EVERYTHING,
    ]
    assert states(service, 0, server_name("plain", PRIMARY, "127.0.0.1:1")) == [NOTHING]


def test_a_pool_that_was_removed(started, path):
    config = config_of(*BACKED, "--journal-dir", path)
    leave(config, act=lambda column: column.journal.note(A.encode(), b"k"))
    service = started(config_of(*BACKED, "--journal-dir", path, name="another"))
    assert states(service, 0, A) == [NOTHING] and service.memory.take_orphans() == [0]


# -- an upgrade


def test_a_successor_shares_the_memory_and_the_journal(started, path):
    """The columns of both processes are in one memory; no file of a living process is taken for an orphan."""
    config = config_of(*BACKED, "--journal-dir", path)
    service = started(config)
    column = service.join()
    column.marks_of(A).add_part(5)

    def succeed():
        successor = ServiceMemory((config,), 1, handed_over(service))
        theirs = successor.join()
        KEPT.append((successor, theirs))
        return theirs.number, successor.memory.take_orphans(), successor.memory.state_of(A, 0), successor.directory.usable

    with Forked(succeed=succeed) as process:
        assert process.call("succeed") == (1, [], SOME, True)
        assert service.memory.take_orphans() == []
        assert sorted(os.listdir(path)) == ["column-0", "column-1", "in-flight-0", "in-flight-1", "lock"]
    assert service.memory.take_orphans() == [1]


def test_the_descriptors_are_not_inherited_by_other_programs(started, path):
    config = config_of(*BACKED, "--journal-dir", path)
    given = handed_over(started(config))
    for descriptor in given.values():
        os.set_inheritable(descriptor, True)
    started(config, handed_over=given)
    assert not any(map(os.get_inheritable, given.values()))


def test_a_predecessor_without_either(started, path, caplog):
    """As version 0.1.0."""
    service = started(config_of(*BACKED, "--journal-dir", path), handed_over={})
    assert service.directory.usable and not caplog.text


def test_a_memory_of_another_version(started, tmp_path, caplog):
    (tmp_path / "memory").write_bytes(b"gmproxy\x07".ljust(4096, b"\0"))
    descriptor = os.open(tmp_path / "memory", os.O_RDWR)
    service = started(config_of(*BACKED), handed_over={MEMORY: descriptor})
    assert "memory of the predecessor not used reason=the memory passed to this process is of another version" in caplog.text
    assert service.join().number == 0
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    assert str(tmp_path / "memory") not in [os.readlink(link) for link in links if os.path.islink(link)]


def test_the_journal_is_given_up_by_an_upgrade(started, path):
    service = started(config_of(*BACKED, "--journal-dir", path))
    given = handed_over(service)
    successor = started(config_of(*BACKED), handed_over=given)
    assert successor.directory is None and set(successor.descriptors()) == {MEMORY}
    with pytest.raises(OSError):
        os.fstat(given[LOCK])


@pytest.mark.parametrize("before", [None, "other"])
def test_another_journal_needs_a_restart(started, path, tmp_path, before, caplog):
    """Its files are those of an earlier service, and could be taken for those of columns that are in use."""
    config = config_of(*BACKED, "--journal-dir", path)
    leave(config, act=lambda column: column.journal.note(A.encode(), b"k"))
    there = sorted(os.listdir(path))
    service = started(config_of(*BACKED, *(["--journal-dir", str(tmp_path / before)] if before else [])))
    service.join()
    successor = started(config, handed_over=handed_over(service))
    assert "setting needs a restart setting=journal_dir" in caplog.text
    assert successor.directory is None and sorted(os.listdir(path)) == there
    successor.join()
    assert sorted(os.listdir(path)) == there
    assert started(config).memory.take_orphans() == [0], "the next service finds what is there"

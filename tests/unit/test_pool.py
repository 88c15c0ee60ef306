"""What a pool shares with those of the other workers, and when nothing of it is left to do."""

import pytest

from gmproxy.config import configuration
from gmproxy.pool import Pool
from gmproxy.process.worker_context import WorkerContext
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import BACKUP, PRIMARY, STAND_IN, part_of, server_name
from gmproxy.shared.memory import SharedMemory

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
PLAIN = ("-s", A, "-s", B)
BACKED = (*PLAIN, "-b", C)
EJECTING = (*PLAIN, "--auto-eject-hosts")


def config_of(*arguments):
    (config,), _ = configuration.parse(list(arguments), {})
    return config


@pytest.fixture
def memory():
    return SharedMemory.create()


@pytest.fixture
def other(memory):
    """The column of another worker."""
    return SharedColumn(memory)


@pytest.fixture
def make(memory):
    """make(*words): a Pool of a worker that shares `memory`, with the configuration of this command line."""
    pools = []

    def pool(*arguments):
        pools.append(Pool(config_of(*arguments), WorkerContext(1, 2, shared=SharedColumn(memory))))
        return pools[-1]

    yield pool
    for each in pools:
        each.shut_down()


def server(pool, label):
    return next(backend for backend in pool.backends if backend.label == label)


@pytest.mark.parametrize("arguments, has_roles", [(PLAIN, False), (BACKED, True), (EJECTING, True)])
def test_a_key_may_have_several_servers(make, arguments, has_roles):
    assert make(*arguments).has_roles() is has_roles


@pytest.mark.parametrize("arguments, follows", [(PLAIN, False), (BACKED, True), (EJECTING, True)])
def test_ejections_are_shared_where_a_key_may_have_several_servers(make, other, arguments, follows):
    pool = make(*arguments)
    other.ejections_of(server_name("", PRIMARY, A)).publish(True)
    pool.run_due_tasks(1000.0)
    assert server(pool, A).health.ejected is follows


def test_a_reload_shares_them_or_no_longer(make, other):
    pool = make(*PLAIN)
    ejections = other.ejections_of(server_name("", PRIMARY, A))
    ejections.publish(True)
    pool.reload(config_of(*BACKED))
    assert server(pool, A).health.ejected
    pool.reload(config_of(*PLAIN))
    ejections.publish(False)
    pool.run_due_tasks(1000.0)
    assert server(pool, A).health.ejected, "each worker probes alone"


def test_pending_invalidations_are_shared_in_any_pool(make, other):
    pool = make(*PLAIN)
    server(pool, A).missed_key(b"k")
    assert other.marks_of(server_name("", PRIMARY, A)).others_have(b"k")


def test_of_a_server_that_is_removed_nothing_is_left(make, other):
    pool = make(*BACKED)
    removed = server(pool, B)
    removed.missed_key(b"k")
    server(pool, C).missed_key(b"k")
    pool.reload(config_of("-s", A, "-b", C))
    assert not other.marks_of(server_name("", PRIMARY, B)).others_have(b"k")
    assert other.marks_of(server_name("", BACKUP, C)).others_have(b"k")
    other.ejections_of(server_name("", PRIMARY, B)).publish(True)
    pool.run_due_tasks(1000.0)
    assert not removed.health.ejected


MOVES = {
    "a replica takes the place of the next": (("-s", A, "--replica", B, "--replica", C), ("-s", A, "--replica", C, "--replica", B)),
    "a replica becomes the main set": (("-s", A, "--replica", B), ("-s", B, "--replica", A)),
    "a backup becomes a primary": (("-s", A, "-b", B), ("-s", B, "-b", A)),
    "a backup becomes a replica": (("-s", A, "-b", B), ("-s", A, "--replica", B)),
}


@pytest.mark.parametrize("before, after", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("overflowed", [False, True])
def test_what_a_server_missed_is_known_after_it_was_moved(make, other, before, after, overflowed):
    """Also to the other workers, which may read it there."""
    pool = make(*before)
    old = server(pool, B)
    if overflowed:
        old.missed_everything()
    else:
        old.missed_key(b"k")
    pool.reload(config_of(*after))
    moved = server(pool, B)
    assert moved is not old and moved.may_be_stale(b"k") and moved.may_be_stale(b"j") == overflowed
    marks = other.marks_of(server_name("", moved.role, B))
    assert marks.others_have(b"k")
    assert not server(pool, A).behind


def test_what_is_pending_survives_the_end_of_the_worker(make, other):
    pool = make(*BACKED)
    server(pool, A).missed_key(b"k")
    server(pool, C).add_stand_in_key(b"l")
    pool.shut_down()
    assert other.marks_of(server_name("", PRIMARY, A)).others_have(b"k")
    assert other.marks_of(server_name("", STAND_IN, C)).others_have(b"l")


def test_settled(make):
    pool = make(*BACKED)
    assert pool.is_settled()
    server(pool, C).missed_key(b"k")
    assert not pool.is_settled()
    server(pool, C).forget_missed_writes()
    assert pool.is_settled()
    server(pool, A).add_stand_in_key(b"k")
    assert not pool.is_settled(), "it is deleted when its own server is restored"
    server(pool, A).drop_stand_in_keys()
    assert not pool.is_settled(), "it is to be deleted now"


class RecordingRouter:
    """Records what a tick calls. `raises`: the first of these raises."""

    def __init__(self, raises=False):
        self.calls = []
        self.raises = raises

    def follow_ejections(self):
        self.calls.append("follow")
        if self.raises:
            raise ValueError("of the test")

    def release_held_writes(self, now):
        self.calls.append(("release", now))

    def write_journal(self):
        self.calls.append("write")


def test_a_tick_releases_held_writes_and_then_writes_the_journal(make):
    pool = make(*BACKED)
    pool.router = RecordingRouter()
    pool.run_due_tasks(1000.0)
    assert pool.router.calls == ["follow", ("release", 1000.0), "write"]


def test_a_tick_goes_on_after_an_exception(make, internal_errors_counted):
    pool = make(*BACKED)
    pool.router = RecordingRouter(raises=True)
    pool.run_due_tasks(1000.0)
    assert pool.router.calls == ["follow", ("release", 1000.0), "write"] and internal_errors_counted() == 1


def test_marks_of_other_workers_are_seen(make, other):
    pool = make(*BACKED)
    other.marks_of(server_name("", BACKUP, C)).add_part(part_of(b"k"))
    assert server(pool, C).may_be_stale(b"k") and not server(pool, A).may_be_stale(b"k")

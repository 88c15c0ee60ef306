"""A comparison of primary and backup while writes are in progress, with servers without a network."""

import logging
from types import SimpleNamespace

import gevent
import pytest

from gmproxy.backend.dump_reader import Items
from gmproxy.backend.item_reader import Item
from gmproxy.errors import TIMEOUT, BackendError
from gmproxy.monitoring import verification
from gmproxy.monitoring.verification import Verification

KEYS = [b"key%d" % number for number in range(120)]
OLD, NEW, NEWER = (Item(0, size, b"digest") for size in (1, 2, 3))


class ComparedServer:
    """A server with `items`. `meanwhile()` is called before each read of items."""

    log = logging.getLogger("gmproxy")
    options = None
    role = "backup"

    def __init__(self, label):
        self.label = label
        self.server = self
        self.health = SimpleNamespace(ejected=False)
        self.items = {}
        self.stale = set()
        self.deleted = []
        self.meanwhile = lambda: None

    def may_be_stale(self, key):
        return key in self.stale

    def missed_key(self, key):
        self.deleted.append(key)
        self.items.pop(key, None)


class Reader:
    def __init__(self, server, options):
        self.server = server

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass

    def read_items(self, keys):
        self.server.meanwhile()
        return {key: self.server.items[key] for key in keys if key in self.server.items}


class Listings:
    """Lists the keys of the servers, or `refusal`."""

    refusal = None

    def read_listing(self, dump, line, backend, listing, write):
        if self.refusal:
            return self.refusal
        data = b"".join(b"key=%b exp=-1\n" % key for key in backend.items) + b"END\r\n"
        write(listing, data)
        return Items(0, len(data) - 5, len(backend.items))

    def write_spill(self, spill, chunk):
        spill.write(chunk)

    def read_spill(self, spill, begin, size):
        return spill.read(begin, size)


@pytest.fixture
def servers(monkeypatch):
    """(primary, backup), each with OLD for all KEYS."""
    for name in ("RECHECK_PAUSE", "PAUSE"):
        monkeypatch.setattr(verification, name, 0.0)
    monkeypatch.setattr(verification, "ItemReader", Reader)
    primary, backup = ComparedServer("a:1"), ComparedServer("b:1")
    for server in (primary, backup):
        server.items = dict.fromkeys(KEYS, OLD)
    return primary, backup


def pool_of(servers, listings=None):
    primary, _ = servers
    sets = [
        SimpleNamespace(name=name, backends=[server], enabled=True, server_of=lambda key, server=server: server)
        for name, server in zip(("main", "backup"), servers)
    ]
    counters = SimpleNamespace(verify_compared=0, verify_different=0)
    router = SimpleNamespace(backends=[primary], sets=sets, primary_of=lambda key: primary, counters=counters)
    return SimpleNamespace(title="default", router=router, context=SimpleNamespace(key_listings=listings or Listings()))


def compare(servers, sample=1000, repairs=True, listings=None):
    """The result for the pool."""
    pool = pool_of(servers, listings)
    router = pool.router
    run = Verification([pool], sample, repairs, 60.0)
    gevent.wait([run._greenlet])
    result = run.result()
    assert result["complete"] and not run.is_running()
    counts = result["pools"]["default"]
    assert counts["compared"] == counts["equal"] + counts["different"] + counts["changed"] == router.counters.verify_compared
    assert router.counters.verify_different == counts["different"]
    return counts


@pytest.mark.parametrize("sample", [0, 120, 1000])
def test_what_differs_for_good_is_deleted_on_the_backup(servers, sample):
    primary, backup = servers
    backup.items[KEYS[5]] = NEW
    counts = compare(servers, sample)
    assert (counts["equal"], counts["different"], counts["repaired"], backup.deleted) == (119, 1, 1, [KEYS[5]])
    assert counts["keys"] == [{"key": "key5", "primary": "a:1", "backup": "b:1"}]
    assert not primary.deleted


def test_without_repairs_nothing_is_deleted(servers):
    servers[1].items = dict.fromkeys(KEYS, NEW)
    counts = compare(servers, repairs=False)
    assert (counts["different"], counts["repaired"], servers[1].deleted) == (120, 0, [])
    assert len(counts["keys"]) == verification.KEYS_REPORTED


def test_a_copy_that_arrives_late_is_equal(servers):
    primary, backup = servers
    primary.items[KEYS[5]] = NEW
    reads = iter(range(100))

    def copy_arrives():
        if next(reads) == 3:
            backup.items[KEYS[5]] = NEW

    backup.meanwhile = copy_arrives
    counts = compare(servers)
    assert (counts["equal"], counts["different"], backup.deleted) == (120, 0, [])


@pytest.mark.parametrize("changing", [0, 1])
def test_a_key_that_is_written_all_the_time_is_not_different(servers, changing):
    server = servers[changing]
    server.items[KEYS[5]] = NEW
    values = iter([Item(0, size, b"other") for size in range(10, 1000)])

    def write():
        server.items[KEYS[5]] = next(values)

    server.meanwhile = write
    counts = compare(servers)
    assert (counts["changed"], counts["different"], servers[1].deleted) == (1, 0, [])


def test_a_key_that_only_one_of_them_has(servers):
    primary, backup = servers
    for key in KEYS[:3]:
        del primary.items[key]
    for key in KEYS[3:5]:
        del backup.items[key]
    for sample in (0, 1000):
        counts = compare(servers, sample)
        assert (counts["only_on_backup"], counts["only_on_primary"], counts["equal"]) == (3, 2, 115)
    assert not backup.deleted


def test_keys_with_a_pending_invalidation(servers):
    servers[0].stale.add(KEYS[0])
    servers[1].stale.add(KEYS[1])
    for key in KEYS[:2]:
        servers[1].items[key] = NEW
    counts = compare(servers)
    assert (counts["pending"], counts["equal"], counts["different"]) == (2, 118, 0)


def test_a_sample_compares_no_key_twice(servers):
    for _ in range(20):
        assert 40 <= compare(servers, 40)["compared"] <= 80


def test_a_server_that_fails_or_lists_nothing_is_skipped(servers):
    primary, backup = servers

    def fail():
        raise BackendError(TIMEOUT, "no reply")

    backup.meanwhile = fail
    counts = compare(servers)
    assert (counts["compared"], counts["skipped"]) == (0, [{"server": "b:1", "reason": "timeout: no reply"}])
    listings = Listings()
    listings.refusal = b"ERROR\r\n"
    assert [each["reason"] for each in compare(servers, listings=listings)["skipped"]] == ["not listed: ERROR"] * 2


def test_what_is_not_deleted_in_time_is_not_repaired(servers, monkeypatch):
    primary, backup = servers
    monkeypatch.setattr(verification, "REPAIR_TIMEOUT", 0.0)
    backup.items[KEYS[0]] = NEW
    backup.missed_key = backup.stale.add
    counts = compare(servers)
    assert (counts["different"], counts["repaired"]) == (1, 0)


def test_the_time_limit(servers):
    primary, _ = servers
    primary.meanwhile = lambda: gevent.sleep(3600)
    pool = pool_of(servers)
    run = Verification([pool], 10, True, 0.01)
    gevent.wait([run._greenlet])
    assert not run.result()["complete"]

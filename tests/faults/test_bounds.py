"""The memory of the proxy stays below a bound that follows from its documented limits, whatever servers and clients do, and it serves all other
clients meanwhile.

The latency of the other clients is printed (`make test-faults`), but not judged. To run the test with a million missed keys alone:
`FAULT_KEYS=1000000 python -m pytest -s tests/faults/test_bounds.py -k missed`
"""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.keys import keys_by_server
from support.scripted import ScriptedBackend, expect, hang, say
from support.servers import HOST, free_port
from support.talk import storage
from support.timing import PATIENCE, eventually, milliseconds

from faults.bystander import Bystander
from faults.stage import Stage, most_resident

KIB, MIB = 1024, 1024 * 1024

# Limits of the proxy (docs/protocol.md), which bound what it holds.
MAX_ITEM = 1 * MIB  # --max-item-size
MAX_BATCH = 64  # requests of one client in flight
MAX_BACKLOG = 64 * MIB  # bytes that are queued for one connection to a server

#: A request or a reply may be in memory twice for a moment: as received, and as forwarded.
COPIES = 2

#: Bytes of a pending invalidation with a key of up to 16 bytes: the key object, its entry in a set, and the set's free space.
JOURNAL_KEY = 120 + 16

#: Bytes for buffers, and for memory that the allocator keeps.
SLACK = 32 * MIB

#: Two servers: a key of the first one, and a key of the second one.
(MINE,), (THEIRS,) = keys_by_server(2, 1)

#: The number of keys whose writes a server misses. A million takes too long for the short form.
JOURNAL_KEYS = int(os.environ.get("FAULT_KEYS", 1_000_000 if "FAULT_SECONDS" in os.environ else 50_000))

#: Room for other pending invalidations; and the maximum time to delete one key, seconds.
OTHER_KEYS = 100
TIME_FOR_A_KEY = 0.0005


@pytest.fixture
def with_stack():
    with ExitStack() as stack:
        yield stack.enter_context


class Deaf:
    """A server that never reads: the kernel accepts connections and the first bytes of the requests, the process does nothing."""

    def __init__(self):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((HOST, free_port()))
        self._listener.listen(1024)
        self.address = "%s:%d" % self._listener.getsockname()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._listener.close()


class Growth:
    """Asserts that during the `with` block the memory of the proxy never grows by more than `bound` bytes."""

    def __init__(self, proxy, bound):
        self._pid = proxy.pid
        self._bound = bound
        self._before = most_resident(proxy.pid)

    def __enter__(self):
        return self

    def __exit__(self, failure, *details):
        grown = most_resident(self._pid) - self._before
        print(f"memory: {grown / MIB:.1f} MiB more than before, allowed are {self._bound / MIB:.0f}")
        if failure is None:
            assert grown <= self._bound, f"{grown / MIB:.1f} MiB more than before, allowed are {self._bound / MIB:.0f}"


# -- servers


def test_primary_that_never_reads(memcached, proxy, with_stack):
    """Its clients wait for replies, and each holds at most one value in the proxy."""
    clients, rounds = 20, 8
    well, deaf = memcached(), with_stack(Deaf())
    front = proxy("-s", well.address, "-s", deaf.address, "--timeout", milliseconds(4), "--server-failure-limit", 1_000_000)
    request = storage(b"set", THEIRS, bytes(MAX_ITEM - KIB))

    def one_client(_):
        with front.talk() as talk:
            for _ in range(rounds):
                assert talk.ask(request).startswith(b"SERVER_ERROR ")
            talk.in_step()

    bound = clients * MAX_ITEM * COPIES + SLACK
    assert clients * rounds * MAX_ITEM > 2 * bound, "or nothing is proved"
    with Growth(front, bound), Bystander(front, MINE), ThreadPoolExecutor(clients) as pool:
        list(pool.map(one_client, range(clients)))


def test_backup_that_never_reads(memcached, proxy, with_stack):
    """No client waits for the copies that are sent to it, so only the limit of the connection bounds their number."""
    clients, each = 4, 100
    primary, deaf = memcached("-m", "256"), with_stack(Deaf())
    front = proxy("-s", primary.address, "-b", deaf.address, "--timeout", milliseconds(100), "--on-miss", "never")
    size = MAX_ITEM - KIB

    def one_client(number):
        with front.talk() as talk:
            for _ in range(each):
                talk.expect(storage(b"set", b"key-%d" % number, bytes(size)), b"STORED\r\n")
            talk.in_step()

    bound = MAX_BACKLOG * COPIES + clients * MAX_ITEM * COPIES + SLACK
    assert clients * each * size > 2 * bound, "or nothing is proved"
    with Growth(front, bound), Bystander(front, b"mine"), ThreadPoolExecutor(clients) as pool:
        list(pool.map(one_client, range(clients)))
    eventually(lambda: front.stats()["backup_writes_lost"] > 0, what="copies are lost")


def test_server_that_announces_100_megabytes(memcached, with_stack, proxy):
    """The proxy allocates memory for the bytes that have arrived, not for the announced length."""
    clients, size = 20, 100 * MIB
    well = memcached()
    liar = with_stack(ScriptedBackend([expect(b"get %b\r\n" % THEIRS), say(b"VALUE %b 0 %d\r\nsome" % (THEIRS, size)), hang()]))
    front = proxy("-s", well.address, "-s", liar.address, "--timeout", milliseconds(4))
    with Growth(front, SLACK), Bystander(front, MINE), ExitStack() as stack:
        for talk in [stack.enter_context(front.talk()) for _ in range(clients)]:
            talk.expect(b"get %b\r\n" % THEIRS, b"END\r\n")


# -- clients


def test_client_that_never_reads(memcached, proxy):
    """The proxy holds the replies to the requests that it has read, and reads no more requests."""
    clients, asked, size = 8, 5000, 250 * KIB
    front = proxy("-s", memcached().address, "--timeout", milliseconds(200))
    with front.talk() as talk:
        talk.expect(storage(b"set", b"large", bytes(size)), b"STORED\r\n")
    bound = clients * MAX_BATCH * size * COPIES + SLACK
    assert clients * asked * size > 2 * bound, "or nothing is proved"
    with Growth(front, bound), Bystander(front, b"mine") as bystander, ExitStack() as stack:
        for talk in [stack.enter_context(front.talk()) for _ in range(clients)]:
            talk.send(b"get large\r\n" * asked)
        eventually(lambda: front.stats()["bytes_held"] >= clients * MAX_BATCH * size, what="all their replies are held")
        bystander.is_served()
    eventually(lambda: front.stats()["bytes_held"] == 0, what="nothing is held for clients who left")


def test_clients_that_announce_100_megabytes(memcached, proxy):
    """The values are allowed. The proxy allocates memory for the bytes that have arrived, not for the announced length."""
    clients, size = 50, 100 * MIB
    front = proxy("-s", memcached().address, "-I", "128m")
    with Growth(front, SLACK), Bystander(front, b"mine") as bystander, ExitStack() as stack:
        for talk in [stack.enter_context(front.talk()) for _ in range(clients)]:
            talk.send(b"set k 0 0 %d\r\nsome" % size)
        eventually(lambda: front.stats()["bytes_held"] >= clients * len(b"some"), what="all of them have begun")
        bystander.is_served()


def test_100_megabytes_that_are_refused(memcached, proxy):
    size = 100 * MIB
    front = proxy("-s", memcached().address)
    with Growth(front, SLACK), Bystander(front, b"mine"), front.talk() as talk:
        talk.expect(storage(b"set", b"k", bytes(size)), b"SERVER_ERROR object too large for cache\r\n")
        talk.in_step()


def test_100_megabytes_that_are_stored(memcached, proxy):
    size = 100 * MIB
    front = proxy("-s", memcached("-I", "128m", "-m", "1024").address, "-I", "128m", "--timeout", milliseconds(200))
    with Growth(front, 3 * size + SLACK), Bystander(front, b"mine"), front.talk() as talk:
        talk.expect(storage(b"set", b"k", bytes(size)), b"STORED\r\n")
        talk.send(b"get k\r\n")
        talk.read_until(b"\r\n")
        assert talk.read_exactly(size + len(b"\r\nEND\r\n")).endswith(b"\r\nEND\r\n")
        talk.in_step()


# -- pending invalidations


def write(talk, keys, data):
    """Write all `keys` as fast as the proxy reads them, with noreply."""
    for start in range(0, len(keys), 1000):
        talk.send(b"".join(storage(b"set", key, data, more=b" noreply") for key in keys[start : start + 1000]))
        talk.in_step()


@pytest.mark.parametrize(
    "kept, backups, options, forgets",
    [
        (JOURNAL_KEYS + OTHER_KEYS, 0, (), "each"),
        (JOURNAL_KEYS + OTHER_KEYS, 1, (), "each"),
        (JOURNAL_KEYS + OTHER_KEYS, 1, ("--backup-writes", "off"), "each"),
        (JOURNAL_KEYS // 10, 0, (), "everything"),
    ],
    ids=["it_forgets_each", "the_backup_has_them", "the_backup_forgets_them_too", "it_forgets_everything"],
)
def test_many_keys_that_a_server_missed(kept, backups, options, forgets):
    """The proxy deletes each of them on the server or, if they are more than --journal-size, flushes it. The bystander uses the other server."""
    keys = [b"{%b}%d" % (THEIRS, number) for number in range(JOURNAL_KEYS)]
    sample = keys[:: JOURNAL_KEYS // 100]
    journals = 2 if "off" in options else 1
    with Stage(primaries=2, backups=backups, options=("--journal-size", kept, "--hash-tag", "{}", *options)) as stage:
        proxy, away = stage.proxy, stage.primaries[1]
        with proxy.talk() as talk, Growth(proxy, journals * kept * JOURNAL_KEY + SLACK), Bystander(proxy, b"{%b}" % MINE) as bystander:
            with bystander.phase("while much is written"):
                write(talk, keys[::10], b"old")
            away.server.pause()
            eventually(lambda: talk.ask(storage(b"set", THEIRS, b"1")) and proxy.stats()["backends_ejected"] == 1, what="it is ejected")
            with bystander.phase("while its keys are noted"):
                write(talk, keys, b"new")
            noted = proxy.stats()["journal_keys"]
            with bystander.phase("while all are remembered"):
                bystander.is_served()
            with bystander.phase("while it forgets them"):
                away.server.resume()
                eventually(
                    lambda: proxy.log().count("backend caught up") >= journals and not proxy.stats()["journal_keys"],
                    PATIENCE + journals * JOURNAL_KEYS * TIME_FOR_A_KEY,
                    what="its keys are forgotten",
                )
            bystander.is_served()
            stage.wait_until_whole()
            talk.send(b"get %b\r\n" % b" ".join(sample))
            assert b"old" not in talk.read_until(b"END\r\n")
            talk.in_step()
        proxy.check_log()
        facts = proxy.stats()
        assert facts["journal_keys"] == 0
        if forgets == "each":
            assert noted >= JOURNAL_KEYS and facts["journal_deleted"] >= journals * JOURNAL_KEYS and facts["journal_flushes"] == 0
        else:
            assert noted == 0 and facts["journal_flushes"] >= 1
        with away.server.talk() as server:
            server.send(b"get %b\r\n" % b" ".join(sample))
            assert b"old" not in server.read_until(b"END\r\n")

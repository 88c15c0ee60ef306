"""Bytes that are held for clients: counted for all of them together, and limited for each."""

import gevent
import pytest
from gevent import socket
from support.loop import wait_until
from support.network import is_closed
from support.talk import storage, value

from gmproxy.client import context
from gmproxy.client.batch import BATCH_BYTES, NO_MEMORY
from gmproxy.config import configuration
from gmproxy.pool import Pool
from gmproxy.process.client_counts import HELD_STEP, ClientCounts
from gmproxy.process.worker_context import WorkerContext

LONG = b"x" * 100_000
LONGEST = b"x" * 1_000_000
VALUE = value(b"long", LONG) + b"END\r\n"


def context_of(number=0, counts=None):
    made = WorkerContext(number, counts.workers if counts else 1, 0.0, counts)
    made.max_clients = 1000
    return made


def pool_at(server, worker_context, *options):
    (config,), _ = configuration.parse(["-s", server.address, *options], {})
    return Pool(config, worker_context)


@pytest.fixture
def pools():
    """pools(pool): the pool is closed at the end of the test."""
    made = []
    yield made.append
    for pool in made:
        pool.drain_clients()
        wait_until(lambda pool=pool: not pool.clients())
        pool.shut_down()


def join(pool):
    """A client of the pool."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    pool.context.clients.add(theirs.detach())
    ours.settimeout(10)
    return ours


def read(sock, count):
    """Receive `count` bytes, or what arrives before the end of the connection."""
    data = bytearray(count)
    have = 0
    while have < count and (received := sock.recv_into(memoryview(data)[have:])):
        have += received
    return bytes(data[:have])


def test_it_is_one_sum_for_all_pools(memcached, pools):
    server, worker_context = memcached(), context_of()
    several = [pool_at(server, worker_context) for _ in range(3)]
    for pool in several:
        pools(pool)
    clients = [join(pool) for pool in several]
    for client in clients:
        client.sendall(b"set k 0 0 1000000\r\n" + b"x" * 50_000)
    wait_until(lambda: worker_context.held_bytes > 150_000)
    assert [pool.context.held for pool in several] == [worker_context.held_bytes // 3] * 3
    for client in clients:
        client.close()
    wait_until(lambda: worker_context.held_bytes == 0)


def test_it_is_one_sum_for_all_workers():
    counts = ClientCounts(3)
    contexts = [context_of(number, counts) for number in range(3)]
    assert contexts[0].add_held_bytes(5 * HELD_STEP) == 5 * HELD_STEP
    assert contexts[1].add_held_bytes(10) == 5 * HELD_STEP + 10
    assert contexts[1].add_held_bytes(3 * HELD_STEP) == 8 * HELD_STEP + 10
    assert contexts[2].add_held_bytes(0) == 8 * HELD_STEP + 10
    assert contexts[0].add_held_bytes(-5 * HELD_STEP) == 3 * HELD_STEP + 10
    counts.clear_worker(1)
    assert contexts[0].add_held_bytes(0) == 0, "the dead hold nothing"


def test_who_holds_too_much_is_closed_also_if_it_is_in_another_pool(memcached, pools, monkeypatch, caplog):
    monkeypatch.setattr(context, "MAX_HELD", 120_000)
    server, worker_context = memcached(), context_of()
    one, other = (pool_at(server, worker_context) for _ in range(2))
    pools(one)
    pools(other)
    first, second = join(one), join(other)
    first.sendall(b"set k 0 0 1000000\r\n" + b"x" * 100_000)
    wait_until(lambda: worker_context.held_bytes > 100_000)
    second.sendall(b"set k 0 0 1000000\r\n" + b"x" * 100_000)
    assert is_closed(second)
    assert (one.context.dropped, other.context.dropped) == (0, 1)
    assert "client dropped reason=memory" in caplog.text
    first.close()
    wait_until(lambda: worker_context.held_bytes == 0)


@pytest.mark.parametrize("bound", ["MAX_HELD", "MAX_HELD_BY_ONE"])
def test_answers_that_arrive_count_before_the_last_is_there(bound, memcached, pools, monkeypatch):
    """64 long replies to one client: it gets those for which there is memory, and is then disconnected."""
    server, worker_context = memcached(), context_of()
    pool = pool_at(server, worker_context)
    pools(pool)
    client = join(pool)
    client.sendall(storage(b"set", b"long", LONG))
    assert read(client, 8) == b"STORED\r\n"
    monkeypatch.setattr(context, bound, 20 * len(VALUE))
    client.sendall(b"get long\r\n" * 64)
    answers = read(client, 65 * len(VALUE))
    found = answers.count(VALUE)
    assert 18 <= found <= 20
    assert answers == VALUE * found + NO_MEMORY * (64 - found)
    wait_until(lambda: not pool.clients())
    assert worker_context.held_bytes == pool.context.held == 0
    assert pool.context.dropped == 1


def test_who_gets_long_answers_has_few_requests_in_flight(memcached, pools):
    """It requests 100 MB and reads slowly after the first batch: no more than the replies of one batch wait for it."""
    server, worker_context = memcached(), context_of()
    pool = pool_at(server, worker_context)
    pools(pool)
    client = join(pool)
    client.sendall(storage(b"set", b"long", LONGEST))
    assert read(client, 8) == b"STORED\r\n"
    client.sendall(b"get long\r\n" * 100)
    size = len(value(b"long", LONGEST) + b"END\r\n")
    read(client, 66 * size)
    wait_until(lambda: worker_context.held_bytes)
    most = 0
    for _ in range(20):
        read(client, size)
        gevent.sleep(0.005)
        most = max(most, worker_context.held_bytes)
    assert 0 < most <= BATCH_BYTES + size
    client.close()
    wait_until(lambda: worker_context.held_bytes == 0)


def test_short_answers_have_many_requests_in_flight_again(memcached, pools):
    server, worker_context = memcached(), context_of()
    pool = pool_at(server, worker_context)
    pools(pool)
    client = join(pool)
    client.sendall(storage(b"set", b"long", LONGEST) + b"get long\r\n" * 70)
    read(client, 8 + 70 * len(value(b"long", LONGEST) + b"END\r\n"))
    for _ in range(100):
        client.sendall(b"get none\r\n" * 64)
        assert read(client, 64 * 5) == b"END\r\n" * 64
    assert worker_context.held_bytes == 0
    client.close()

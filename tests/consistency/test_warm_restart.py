"""memcached's warm restart: the server has a new process ID and its old memory. What was overwritten meanwhile is not read there."""

import random
import time

import pytest
from faults.stage import TIMEOUT
from support.talk import storage
from support.timing import eventually

from consistency import kills
from consistency.agreement import values_on
from consistency.installation import Installation
from consistency.load import SharedLoad
from consistency.parameters import SEED, journal, seconds
from consistency.warm_memcached import RAM_DISK, WarmMemcached

pytestmark = pytest.mark.skipif(not RAM_DISK.is_dir(), reason=f"there is no RAM disk at {RAM_DISK}")

KEYS = [b"key-%d" % number for number in range(100)]

#: How long the server is down, and up, in timeouts of the proxy.
DOWN, UP = (0.5, 10), (1, 10)


@pytest.fixture
def server(program):
    with WarmMemcached(program) as server:
        yield server


def set_all(service, data):
    with service.proxy.talk() as talk:
        talk.expect(b"".join(storage(b"set", key, data) for key in KEYS), b"STORED\r\n" * len(KEYS))


def read_all(service):
    """The values of KEYS through the proxy."""
    return values_on(service.proxy, KEYS)


@pytest.mark.long
def test_memory_and_uptime_survive_and_the_process_id_does_not(server):
    """What gmproxy relies on."""
    with server.talk() as talk:
        talk.expect(storage(b"set", b"k", b"hello"), b"STORED\r\n")
    eventually(lambda: server.stats()["uptime"] >= 1, what="the server is a second old")
    before = server.stats()
    server.save()
    server.start_again()
    after = server.stats()
    assert values_on(server, [b"k"]) == {b"k": b"hello"}
    assert after["pid"] != before["pid"]
    assert after["uptime"] >= before["uptime"]


@pytest.mark.parametrize("proxy", ["goes on", pytest.param("killed", marks=pytest.mark.long)])
def test_what_was_overwritten_meanwhile_is_not_read(tmp_path, server, proxy):
    with Installation(tmp_path, [server], 1, 2, () if proxy == "goes on" else journal(tmp_path)) as service:
        set_all(service, b"old")
        server.save()
        set_all(service, b"new")
        if proxy == "killed":
            service.kill_all()
            service.start()
        server.start_again()
        assert values_on(server, KEYS).items() <= dict.fromkeys(KEYS, b"old").items()
        service.wait_until_restored()
        assert b"old" not in read_all(service).values()
        service.check_logs()


@pytest.mark.long
@pytest.mark.parametrize("ways", [(), kills.OF_ANY_NUMBER_OF_WORKERS], ids=["gmproxy goes on", "gmproxy is killed, too"])
def test_nothing_overwritten_is_read_in_a_long_load(tmp_path, server, ways):
    chance = random.Random(SEED)
    restarts = 0
    with Installation(tmp_path, [server], 1, 2, journal(tmp_path) if ways else ()) as service:
        with SharedLoad(service.port, seed=SEED, rest=0.002, connections_may_end=bool(ways)) as load:
            end = time.monotonic() + seconds(60)
            while time.monotonic() < end:
                load.run_for(chance.uniform(*UP) * TIMEOUT)
                server.save()
                load.run_for(chance.uniform(*DOWN) * TIMEOUT)
                if ways and chance.random() < 0.5:
                    chance.choice(ways)(service, chance)
                server.start_again()
                restarts += 1
                service.wait_until_restored()
                load.read_all()
        summary = f"{restarts} warm restarts, seed {SEED}\n{load.results.summary()}"
        print(summary)
        service.check_logs()
    assert restarts and load.results.counts["hits"], summary
    assert not load.results.complaint(), f"{summary}\n{load.results.complaint()}"

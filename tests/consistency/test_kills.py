"""gmproxy is killed, ended, started again or upgraded at random moments, while a server is stopped and has missed writes. After the server goes
on, nothing that was overwritten or deleted is read.

Run one way of ending alone: `pytest -s tests/consistency/test_kills.py -m long -k ...` with GMPROXY_TEST_KILLS and GMPROXY_TEST_SEED.
"""

import random
import time
from collections import Counter

import pytest
from faults.scenario import SOON_WARM
from faults.stage import TIMEOUT
from support.timing import eventually

from consistency import kills
from consistency.installation import Installation
from consistency.load import SharedLoad
from consistency.parameters import KILLS, SEED, journal

#: What happens in the normal run: one after the other.
SHORT = (kills.kill_all, kills.kill_a_worker, kills.terminate)

#: How long the server is stopped before gmproxy is killed, and after it; and how long it runs before the next kill; in timeouts of the proxy.
BEFORE, AFTER, BETWEEN = (0, 6), (0, 4), (0, 4)

#: Probability that gmproxy is killed before it has noticed that the server is stopped.
UNNOTICED = 0.3

#: Otherwise it is killed when this number of keys are pending, at most.
MOST_PENDING = 60

#: Probability that the clients stop before the server goes on: then nobody overwrites what is stale before it is read.
QUIET = 0.5

KEYS, COUNTERS = 150, 20


def check_kills(folder, count, ways=kills.ALL, workers=(2,), backups=1, options=(), replicas=0):
    """Kill gmproxy `count` times, each time in one of `ways`."""
    chance = random.Random(SEED)
    happened, missed = Counter(), 0
    plan = [ways[number % len(ways)] for number in range(count)]
    chance.shuffle(plan)
    with Installation(folder, 1, backups, workers[0], options, replicas) as service:
        with SharedLoad(service.port, keys=KEYS, counters=COUNTERS, seed=SEED, connections_may_end=True) as load:
            for way in plan:
                server = chance.choice(service.servers)
                server.pause()
                load.results.happened(f"{server.address} stopped")
                try:
                    if chance.random() < UNNOTICED:
                        _rest(chance, BEFORE)
                    else:
                        wanted = chance.randrange(1, MOST_PENDING)
                        eventually(lambda: service.proxy_stats("journal_keys") >= wanted, what="the stopped server has missed writes")
                    missed += service.proxy_stats("journal_keys")
                    service.workers = chance.choice(workers) if way not in (kills.kill_a_worker, kills.upgrade) else service.workers
                    load.results.happened(f"gmproxy: {way.__name__}")
                    way(service, chance)
                    load.results.happened("gmproxy serves")
                    _rest(chance, AFTER)
                    if chance.random() < QUIET:
                        load.hold()
                finally:
                    load.results.happened(f"{server.address} goes on")
                    server.resume()
                happened[way.__name__] += 1
                _rest(chance, BETWEEN)
                load.check_alive()
                service.wait_until_restored()
                load.read_all()
                load.go_on()
                if load.results.violations:
                    break
        words = ", ".join(f"{name} {times}" for name, times in happened.items())
        servers = f"{workers} workers, {backups} backups, {replicas} replicas"
        summary = f"{words}; {missed} keys were pending; {servers}, seed {SEED}\n{load.results.summary()}"
        print(summary)
        service.check_logs()
    assert missed and load.results.counts["hits"], summary
    assert not load.results.complaint(), f"{summary}\nafter kill {happened.total()}, {way.__name__}\n{load.results.complaint()}"


def _rest(chance, timeouts):
    time.sleep(chance.uniform(*timeouts) * TIMEOUT)


def test_nothing_old_is_read_after_a_kill(tmp_path):
    check_kills(tmp_path, len(SHORT), SHORT, options=journal(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("workers", [(1,), (2,), (1, 2, 3)], ids=["1 worker", "2 workers", "other numbers of workers"])
def test_nothing_old_is_read_after_many_kills(tmp_path, workers):
    ways = kills.ALL if min(workers) > 1 else kills.OF_ANY_NUMBER_OF_WORKERS
    check_kills(tmp_path, KILLS // 3 + 1, ways, workers, options=journal(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("write", ["main", "majority"])
def test_nothing_old_is_read_of_three_sets_after_many_kills(tmp_path, write):
    options = ("--write", write, "--read", "spread", *SOON_WARM, *journal(tmp_path))
    check_kills(tmp_path, KILLS // 6 + 1, kills.ALL, (2,), 0, options, replicas=2)

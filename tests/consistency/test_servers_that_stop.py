"""A server stops or is restarted at random moments while clients use the same keys and counters through several workers: no overwritten value
is read, and no acknowledged increment is lost."""

import random
import time

import pytest
from faults.scenario import SOON_WARM
from faults.stage import TIMEOUT

from consistency.installation import Installation
from consistency.load import SharedLoad
from consistency.parameters import SEED, seconds

#: How long a server is away, and the time until the next failure, in timeouts of the proxy.
AWAY = (0.5, 12)
BETWEEN = (0.5, 12)

#: Seconds of the load in the normal run.
SHORT = 1

#: Keys and counters: few, so that each is used by all clients while a server is away.
KEYS, COUNTERS = 200, 40

#: Counters are used more than in other loads.
MIX = {"get": 14, "multi_get": 8, "gets": 6, "set": 16, "add": 4, "cas": 6, "append": 4, "delete": 6, "gat": 2, "touch": 2, "incr": 30}


def stopped(server, chance):
    server.pause()
    _rest(chance, AWAY)
    server.resume()


def restarted_empty(server, chance):
    server.kill()
    _rest(chance, AWAY)
    server.restart()


def _rest(chance, timeouts):
    time.sleep(chance.uniform(*timeouts) * TIMEOUT)


#: {name: (primaries, backups, replica sets, options, the servers that fail, the failures)}
CASES = {
    "ejected_from_the_ring": (3, 0, 0, ("--auto-eject-hosts", "--server-failure-limit", "1"), "primaries", (stopped,)),
    "primary_with_a_backup": (1, 1, 0, (), "primaries", (stopped,)),
    "primary_with_a_backup_in_step": (1, 1, 0, ("--backup-writes", "sync"), "primaries", (stopped,)),
    "primary_restarted_empty": (1, 1, 0, (), "primaries", (restarted_empty,)),
    "primary_and_backup": (1, 1, 0, (), "servers", (stopped, restarted_empty)),
    "main_set_of_three": (2, 0, 2, (), "primaries", (stopped, restarted_empty)),
    "three_sets": (2, 0, 2, ("--write", "majority"), "servers", (stopped, restarted_empty)),
    "three_sets_read_in_turns": (2, 0, 2, ("--write", "main", "--read", "spread", *SOON_WARM), "servers", (stopped, restarted_empty)),
    "three_sets_in_step": (2, 0, 2, ("--write", "all", "--read", "spread", *SOON_WARM), "servers", (stopped,)),
}


def check(folder, case, duration, workers=2):
    primaries, backups, replicas, options, victims, failures = CASES[case]
    chance = random.Random(SEED)
    events = 0
    with Installation(folder, primaries, backups, workers, options, replicas) as service:
        with SharedLoad(service.port, keys=KEYS, counters=COUNTERS, seed=SEED, mix=MIX, rest=0.002) as load:
            end = time.monotonic() + duration
            while time.monotonic() < end:
                failure, server = chance.choice(failures), chance.choice(getattr(service, victims))
                load.results.happened(f"{server.address} {failure.__name__}")
                failure(server, chance)
                load.results.happened(f"{server.address} no longer {failure.__name__}")
                events += 1
                _rest(chance, BETWEEN)
                load.check_alive()
            service.wait_until_restored()
            load.run_for(5 * TIMEOUT)
            load.hold()
            load.read_all()
        summary = f"{case}, {workers} workers, {duration} s, {events} failures, seed {SEED}\n{load.results.summary()}"
        print(summary)
        service.proxy.check_log()
    assert load.results.counts["increments"] and load.results.counts["hits"], summary
    assert not load.results.complaint(), f"seed {SEED}\n{load.results.complaint()}"


def test_nothing_overwritten_is_read(tmp_path):
    check(tmp_path, "ejected_from_the_ring", SHORT)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_nothing_overwritten_is_read_in_a_long_load(tmp_path, case):
    check(tmp_path, case, seconds(60))

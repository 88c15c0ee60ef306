"""A steady load while servers, network and gmproxy itself fail: no reply is wrong, every request gets one within its timeouts, and afterwards
gmproxy holds no more than before.

    FAULT_SECONDS   seconds of faults, for all scenarios together. If it is not set, only the most important scenarios run, for a few
                    seconds
    FAULT_SEED      seed of the choice of faults and requests
    GMPROXY_TEST_MEMCACHED   another memcached, which every second server runs

`make test-faults` sets the first two and prints the tables. What several workers do not guarantee yet: promises.py.
"""

import os
import time
from typing import NamedTuple

import pytest
from support.timing import PATIENCE, Stopwatch, eventually

from faults.driver import SERVER_FAULTS, SERVICE_FAULTS, STOPPED, TWO_AT_ONCE, WIRE_FAULTS, WORKER_FAULTS, Driver
from faults.load import Load
from faults.pauses import Watch
from faults.promises import excused
from faults.report import complaint, table
from faults.stage import TIMEOUT, Footprint, Stage
from faults.worker import Rules

#: Maximum growth of the memory of the proxy, bytes for each of its processes: its allocator keeps some memory after a load.
MEMORY_ALLOWANCE = 24 * 1024 * 1024

#: Maximum duration of a request without pauses, seconds. A longer request hung. The primary and the backup may each take a timeout, and the
#: proxy checks a few times per timeout for replies that are late.
HUNG_AFTER = 3 * TIMEOUT

#: A server is ejected after its first timeout, and other servers stand in for it.
EJECT_AT_ONCE = ("--auto-eject-hosts", "--server-failure-limit", "1")

ALL_FAULTS = SERVER_FAULTS + WIRE_FAULTS + SERVICE_FAULTS


class Scenario(NamedTuple):
    name: str
    stage: dict
    faults: tuple
    two_at_once: float = TWO_AT_ONCE
    clients: int = 6

    @property
    def excused(self) -> frozenset[str]:
        """Kinds of violation that do not fail this scenario."""
        return excused(
            workers=self.stage["workers"],
            elsewhere=self.stage["backups"] > 0 or "--auto-eject-hosts" in self.stage["options"],
            workers_die=bool(set(self.faults) & set(WORKER_FAULTS)),
            damages=any(fault.name == "corrupted" for fault in self.faults),
        )


#: FAULT_SECONDS selects the long form.
IS_LONG = "FAULT_SECONDS" in os.environ


def stage(primaries: int, backups: int, *options: str, wires: bool = False, workers: int = 1) -> dict:
    """The arguments of Stage, in one line."""
    return {"primaries": primaries, "backups": backups, "options": options, "wires": wires, "workers": workers}


SCENARIOS = [
    Scenario("servers_with_a_backup", stage(2, 1), SERVER_FAULTS + SERVICE_FAULTS),
    Scenario("two_servers_with_a_backup_ejected_from_the_ring", stage(3, 1, *EJECT_AT_ONCE), (STOPPED,) * 6, two_at_once=1, clients=16),
    Scenario("servers_ejected_from_the_ring_for_a_while", stage(3, 0, "--auto-eject-hosts", "--failover-ttl", "60"), SERVER_FAULTS),
    Scenario("servers_of_two_workers", stage(2, 1, workers=2), SERVER_FAULTS + WORKER_FAULTS),
    Scenario("wires_with_a_backup", stage(2, 1, wires=True), WIRE_FAULTS),
]
if IS_LONG:
    SCENARIOS += [
        Scenario("servers_with_a_backup_in_step", stage(2, 1, "--backup-writes", "sync"), SERVER_FAULTS + SERVICE_FAULTS),
        Scenario("servers_with_a_backup_for_the_worst", stage(2, 1, "--backup-writes", "off"), SERVER_FAULTS + SERVICE_FAULTS),
        Scenario("servers_without_backup", stage(3, 0), SERVER_FAULTS + SERVICE_FAULTS),
        Scenario("servers_of_two_workers_without_backup", stage(3, 0, workers=2), SERVER_FAULTS + SERVICE_FAULTS),
        Scenario("wires_without_backup", stage(3, 0, wires=True), WIRE_FAULTS),
        Scenario("all_ejected_from_the_ring", stage(3, 0, "--auto-eject-hosts", wires=True), ALL_FAULTS),
        Scenario("all_with_backups", stage(2, 2, wires=True), ALL_FAULTS),
        Scenario("all_with_backups_in_step", stage(2, 2, "--backup-writes", "sync", wires=True), ALL_FAULTS),
        Scenario("all_with_backups_always_asked", stage(2, 2, "--on-miss", "always", wires=True), ALL_FAULTS),
        Scenario("all_with_backups_and_a_small_journal", stage(2, 2, "--journal-size", "5", wires=True), ALL_FAULTS),
        Scenario("all_with_backups_spoken_to_in_binary", stage(2, 2, "--backend-protocol", "binary", wires=True), ALL_FAULTS),
        Scenario("all_with_backups_ejected_from_the_ring", stage(3, 2, *EJECT_AT_ONCE, "--failover-ttl", "60", wires=True), ALL_FAULTS),
        Scenario("all_of_two_workers", stage(3, 2, "--auto-eject-hosts", wires=True, workers=2), ALL_FAULTS + WORKER_FAULTS),
    ]

SECONDS = float(os.environ.get("FAULT_SECONDS", "6")) / len(SCENARIOS)
SEED = os.environ.get("FAULT_SEED", "1")


def is_left_as_found(staged, before):
    """True if each worker has at most two connections to each server (one is for long replies), no more other file descriptors are open than
    `before`, and nothing is unfinished."""
    now = Footprint.of(staged.service)
    workers = max(1, len(staged.service.pids()) - 1)
    return (
        now.links <= 2 * len(staged.nodes) * workers
        and now.descriptors - now.links <= before.descriptors - before.links
        and now.unfinished == 0
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_no_answer_is_wrong(scenario):
    with Stage(**scenario.stage) as staged:
        service = staged.service
        with Load(staged.proxy.port, "first", scenario.clients, SEED):  # opens all connections, and lets buffers grow
            pass
        before = Footprint.of(service)
        driver = Driver(staged.nodes, scenario.faults, SEED, service, scenario.two_at_once)
        watch = Stopwatch()
        rules = Rules(HUNG_AFTER, service.pauses, service.cuts_off)
        with Watch(service.pauses, service.pids), Load(staged.proxy.port, "load", scenario.clients, SEED, rules) as load:
            driver.run(SECONDS)
            staged.wait_until_whole()
        seconds = watch.seconds
        paused = service.pauses.within(0, time.monotonic())
        staged.proxy.check_log()
        after = Footprint.of(service)
        print(table(f"{scenario.name}, seed {SEED}", seconds, load.tally, driver.events, before, after, paused, scenario.excused))
        wrong = complaint(load.tally, driver.events, scenario.excused)
        if wrong:
            pytest.fail(f"seed {SEED}\n{wrong}", pytrace=False)
        assert after.internal_errors == 0
        eventually(lambda: is_left_as_found(staged, before), what=f"it is as at first, {before}, and not {Footprint.of(service)}")
        assert after.memory - before.memory < MEMORY_ALLOWANCE * len(service.pids())
        assert staged.proxy.stop(PATIENCE) == 0

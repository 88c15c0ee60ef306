"""A steady load while servers, network and gmproxy itself fail: no reply is wrong, every request gets one within its timeouts, and afterwards
gmproxy holds no more than before.

    FAULT_SECONDS   seconds of faults, for all scenarios together. If it is not set, only the most important scenarios run, for a few
                    seconds
    FAULT_SEED      seed of the choice of faults and requests
    GMPROXY_TEST_MEMCACHED   another memcached, which every second server runs

`make test-faults` sets the first two and prints the tables.
"""

import os

import pytest

from faults.driver import REPLICA_FAULTS, SERVER_FAULTS, SERVICE_FAULTS, STOPPED, WIRE_FAULTS, WORKER_FAULTS
from faults.scenario import EJECT_AT_ONCE, SEED, SOON_WARM, Scenario, check, stage

ALL_FAULTS = SERVER_FAULTS + WIRE_FAULTS + SERVICE_FAULTS


#: Options of a pool with two replicas.
THREE_SETS = ("--write", "majority", "--read", "spread", *SOON_WARM)

#: FAULT_SECONDS selects the long form.
IS_LONG = "FAULT_SECONDS" in os.environ


SCENARIOS = [
    Scenario("servers_with_a_backup", stage(2, 1), SERVER_FAULTS + SERVICE_FAULTS),
    Scenario("two_servers_with_a_backup_ejected_from_the_ring", stage(3, 1, *EJECT_AT_ONCE), (STOPPED,) * 6, two_at_once=1, clients=16),
    Scenario("servers_ejected_from_the_ring_for_a_while", stage(3, 0, "--auto-eject-hosts", "--failover-ttl", "60"), SERVER_FAULTS),
    Scenario("servers_of_two_workers", stage(2, 1, workers=2), SERVER_FAULTS + WORKER_FAULTS),
    Scenario("wires_with_a_backup", stage(2, 1, wires=True), WIRE_FAULTS),
    Scenario("three_sets", stage(2, 0, *THREE_SETS, replicas=2, workers=2), SERVER_FAULTS + REPLICA_FAULTS + WORKER_FAULTS),
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
        Scenario("wires_of_three_sets", stage(2, 0, *THREE_SETS, replicas=2, wires=True), WIRE_FAULTS),
        Scenario("all_of_three_sets", stage(2, 0, "--write", "all", replicas=2, wires=True), ALL_FAULTS + REPLICA_FAULTS),
        Scenario("all_of_two_workers", stage(3, 2, "--auto-eject-hosts", wires=True, workers=2), ALL_FAULTS + WORKER_FAULTS),
    ]

SECONDS = float(os.environ.get("FAULT_SECONDS", "6")) / len(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_no_answer_is_wrong(scenario):
    check(scenario, SECONDS, SEED)

"""A steady load while servers and wires fail. Whatever happens, no answer may be wrong, and the proxy comes out as it went in.

    FAULT_SECONDS   seconds of faults for all the scenarios together. If it is not said, they are so few that this is a test like
                    any other, with the most important scenarios
    FAULT_SEED      another course of events

`make test-faults` says both and shows the tables.
"""

import os
from typing import NamedTuple

import pytest

from faults.driver import SERVER_FAULTS, WIRE_FAULTS, Driver
from faults.load import Load
from faults.report import complaint, table
from faults.stage import Footprint, Stage
from support.timing import Stopwatch, eventually

#: What the proxy may have more at the end than at the start, bytes: the room its allocator keeps for the next such load.
MEMORY_ALLOWANCE = 24 * 1024 * 1024


class Scenario(NamedTuple):
    name: str
    stage: dict
    faults: tuple

    @property
    def damages_data(self):
        return any(fault.name == "corrupted" for fault in self.faults)


#: The long form is asked for by saying how long.
IS_LONG = "FAULT_SECONDS" in os.environ

SCENARIOS = [
    Scenario("servers_with_a_backup", dict(primaries=2, backups=1), SERVER_FAULTS),
    Scenario("servers_with_a_backup_in_step", dict(primaries=2, backups=1, options=("--backup-writes", "sync")), SERVER_FAULTS),
    Scenario("servers_with_a_backup_for_the_worst", dict(primaries=2, backups=1, options=("--backup-writes", "off")), SERVER_FAULTS),
    Scenario("servers_without_backup", dict(primaries=3), SERVER_FAULTS),
    Scenario("servers_ejected_from_the_ring", dict(primaries=3, options=("--auto-eject-hosts",)), SERVER_FAULTS),
    Scenario("wires_with_a_backup", dict(primaries=2, backups=1, wires=True), WIRE_FAULTS),
    Scenario("wires_without_backup", dict(primaries=3, wires=True), WIRE_FAULTS),
    Scenario("wires_ejected_from_the_ring", dict(primaries=3, wires=True, options=("--auto-eject-hosts",)), WIRE_FAULTS),
]
if IS_LONG:
    SCENARIOS += [
        Scenario("all_with_backups", dict(primaries=2, backups=2, wires=True), SERVER_FAULTS + WIRE_FAULTS),
        Scenario("all_with_backups_always_asked", dict(primaries=2, backups=2, wires=True, options=("--on-miss", "always")),
                 SERVER_FAULTS + WIRE_FAULTS),
        Scenario("all_with_backups_and_a_small_journal", dict(primaries=2, backups=2, wires=True, options=("--journal-size", "5")),
                 SERVER_FAULTS + WIRE_FAULTS),
        Scenario("all_with_backups_spoken_to_in_binary", dict(primaries=2, backups=2, wires=True, options=("--backend-protocol", "binary")),
                 SERVER_FAULTS + WIRE_FAULTS),
        Scenario("all_with_backups_ejected_from_the_ring", dict(primaries=3, backups=2, wires=True, options=("--auto-eject-hosts",)),
                 SERVER_FAULTS + WIRE_FAULTS),
    ]

SECONDS = float(os.environ.get("FAULT_SECONDS", "8")) / len(SCENARIOS)
SEED = os.environ.get("FAULT_SEED", "1")


def is_left_as_found(stage, before):
    now = Footprint.of(stage.proxy)
    return now.links <= 2 * len(stage.nodes) and now.descriptors - now.links == before.descriptors - before.links and now.unfinished == 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_no_answer_is_wrong(scenario):
    with Stage(**scenario.stage) as stage:
        with Load(stage.proxy.port, "first", seed=SEED):  # opens all links, and the proxy's buffers grow to their size
            pass
        before = Footprint.of(stage.proxy)
        driver = Driver(stage.nodes, scenario.faults, SEED)
        watch = Stopwatch()
        with Load(stage.proxy.port, seed=SEED) as load:
            driver.run(SECONDS)
            stage.wait_until_whole()
        seconds = watch.seconds
        stage.proxy.check_log()
        wrong = complaint(load.tally, driver.events, damage_is_allowed=scenario.damages_data)
        if wrong:
            pytest.fail(f"seed {SEED}\n{wrong}", pytrace=False)
        after = Footprint.of(stage.proxy)
        print(table(f"{scenario.name}, seed {SEED}", seconds, load.tally, driver.events, before, after))
        eventually(lambda: is_left_as_found(stage, before), what="to each server one link, and one for long answers, as many other files as at first, nothing unfinished")
        assert after.memory - before.memory < MEMORY_ALLOWANCE

"""The load under faults with combinations of options, in which each pair of values of two options occurs.

GMPROXY_TEST_SECONDS   seconds of each run, default 20
FAULT_SEED             seed of the choice of faults and requests
"""

from itertools import combinations, product

import pytest
from support.pairwise import all_pairs

from faults.driver import SERVER_FAULTS, SERVICE_FAULTS, WIRE_FAULTS, WORKER_FAULTS
from faults.scenario import EJECT_AT_ONCE, LONG_SECONDS, SEED, Scenario, check, described, stage

#: Values of the options: words of the command line, or arguments of Stage.
OPTIONS = {
    "workers": (1, 2),
    "journal": (False, True),
    "servers": ((2, 1), (3, 0), (2, 2)),
    "backup_writes": ("async", "sync", "off"),
    "on_miss": ("warming", "always", "never"),
    "eject": ((), ("--auto-eject-hosts",), (*EJECT_AT_ONCE,)),
    "protocol": ("text", "binary"),
    "journal_size": ("100000", "5"),
    "failover_ttl": ("0", "60"),
    "wires": (False, True),
}


def scenario_of(chosen) -> Scenario:
    options = [
        "--backup-writes", chosen["backup_writes"], "--on-miss", chosen["on_miss"], "--backend-protocol", chosen["protocol"],
        "--journal-size", chosen["journal_size"], "--failover-ttl", chosen["failover_ttl"], *chosen["eject"],
    ]  # fmt: skip
    faults = SERVER_FAULTS + SERVICE_FAULTS + (WIRE_FAULTS if chosen["wires"] else ()) + (WORKER_FAULTS if chosen["workers"] > 1 else ())
    how = stage(*chosen["servers"], *options, wires=chosen["wires"], workers=chosen["workers"], journal=chosen["journal"])
    return Scenario(described(chosen), how, faults)


SCENARIOS = [scenario_of(chosen) for chosen in all_pairs(OPTIONS)]


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=map(str, range(1, len(SCENARIOS) + 1)))
def test_no_answer_is_wrong_with_any_pair_of_options(scenario):
    check(scenario, LONG_SECONDS, SEED)


def test_each_pair_occurs():
    selected = all_pairs(OPTIONS)
    assert selected == all_pairs(OPTIONS)
    for one, other in combinations(OPTIONS, 2):
        assert {(chosen[one], chosen[other]) for chosen in selected} == set(product(OPTIONS[one], OPTIONS[other]))
    assert len(selected) < 20
    assert all_pairs({"one": "ab"}) == [{"one": "a"}, {"one": "b"}]

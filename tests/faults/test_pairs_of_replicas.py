"""The load under faults over three sets of two servers, with combinations of options in which each pair of values of two options occurs. Single
servers fail, whole sets, and two of them at once.

GMPROXY_TEST_SECONDS   seconds of each run, default 20
FAULT_SEED             seed of the choice of faults and requests
"""

from itertools import combinations, product

import pytest
from support.pairwise import all_pairs

from faults.driver import REPLICA_FAULTS, SERVER_FAULTS, SERVICE_FAULTS, WIRE_FAULTS, WORKER_FAULTS
from faults.scenario import LONG_SECONDS, SEED, SOON_WARM, Scenario, check, described, stage

SERVERS = 2
REPLICAS = 2

#: Probability that a second server or set fails before the first has recovered.
TWO_AT_ONCE = 0.5

#: Values of the options: words of the command line, or arguments of Stage.
OPTIONS = {
    "write": ("main", "majority", "all"),
    "read": (("first",), ("near", "--zone", "here", "--server-zone", "here"), ("spread",)),
    "workers": (1, 2),
    "journal": (False, True),
    "faults": ("of servers", "of wires", "of both"),
    "protocol": ("text", "binary"),
    "journal_size": ("100000", "5"),
    "on_miss": ("warming", "always", "never"),
}


def scenario_of(chosen) -> Scenario:
    options = [
        "--write", chosen["write"], "--read", *chosen["read"], "--backend-protocol", chosen["protocol"],
        "--journal-size", chosen["journal_size"], "--on-miss", chosen["on_miss"], *SOON_WARM,
    ]  # fmt: skip
    wires = chosen["faults"] != "of servers"
    faults = SERVICE_FAULTS + REPLICA_FAULTS + (WIRE_FAULTS if wires else ()) + (SERVER_FAULTS if chosen["faults"] != "of wires" else ())
    faults += WORKER_FAULTS if chosen["workers"] > 1 else ()
    how = stage(SERVERS, 0, *options, wires=wires, workers=chosen["workers"], journal=chosen["journal"], replicas=REPLICAS)
    return Scenario(described(chosen), how, faults, TWO_AT_ONCE)


SCENARIOS = [scenario_of(chosen) for chosen in all_pairs(OPTIONS)]


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS, ids=map(str, range(1, len(SCENARIOS) + 1)))
def test_no_answer_is_wrong_over_three_sets(scenario):
    check(scenario, LONG_SECONDS, SEED)


def test_each_pair_of_replica_options_occurs():
    selected = all_pairs(OPTIONS)
    for one, other in combinations(OPTIONS, 2):
        assert {(chosen[one], chosen[other]) for chosen in selected} == set(product(OPTIONS[one], OPTIONS[other]))
    assert len(selected) < 16

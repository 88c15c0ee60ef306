"""Three sets of servers: every order of two clients without a failure, and random orders with one, with one worker and with two.

With a failure there are too many orders to try all of them. GMPROXY_TEST_SEED is the seed of the choice.
"""

import os
from random import Random

import pytest

from model.clients import CLASSES, script_of
from model.explorer import explore_randomly
from model.pairs import check_pairs, pairs_of
from model.service import ALL_SERVICES, CLOSES, DIES, IS_EJECTED, NO_FAILURE, REPLICAS, RESTARTS, TIMES_OUT, WORKERS_WITH_REPLICAS, Failure
from model.world import World

SEED = os.environ.get("GMPROXY_TEST_SEED", "1")

FEW = ("get", "set", "append", "delete")

FAILURES = [(kind, server) for kind in (CLOSES, TIMES_OUT, IS_EJECTED, RESTARTS) for server in "AB"]

#: Orders of each pair in the normal run, and in the long one.
ORDERS, MANY_ORDERS = 3, 150


def check_randomly(service: str, pairs, failure: Failure, orders: int) -> None:
    violations = []
    for classes in pairs:
        judged: set[object] = set()
        scripts = [script_of(name, client) for client, name in enumerate(classes, 1)]
        chance = Random(f"{SEED} {service} {classes} {failure}")
        exploration = explore_randomly(lambda: World(ALL_SERVICES[service], scripts, failure, judged), orders, chance)  # noqa: B023
        if exploration.found:
            violations.append(f"{' | '.join(classes)}: {exploration.found}")
    assert not violations, f"seed {SEED}\n\n" + "\n\n".join(violations)


@pytest.mark.parametrize("service", [pytest.param(name, marks=[pytest.mark.long] if name != "replicas" else []) for name in REPLICAS])
def test_every_order_without_a_failure(service):
    check_pairs(service, pairs_of(FEW))


@pytest.mark.parametrize("kind, server", FAILURES)
@pytest.mark.parametrize("service", REPLICAS)
def test_some_orders_with_a_failure(service, kind, server):
    check_randomly(service, pairs_of(FEW), Failure((kind,), server), ORDERS)


@pytest.mark.parametrize("service", WORKERS_WITH_REPLICAS)
def test_some_orders_of_two_workers(service):
    check_randomly(service, pairs_of(FEW), NO_FAILURE, 2 * ORDERS)


@pytest.mark.long
@pytest.mark.parametrize("kind, server", FAILURES)
@pytest.mark.parametrize("service", REPLICAS)
def test_many_orders_with_a_failure(service, kind, server):
    check_randomly(service, pairs_of(CLASSES), Failure((kind,), server), MANY_ORDERS)


@pytest.mark.long
@pytest.mark.parametrize("kind, server", [("", ""), *FAILURES, (DIES, "")])
@pytest.mark.parametrize("service", WORKERS_WITH_REPLICAS)
def test_many_orders_of_two_workers(service, kind, server):
    check_randomly(service, pairs_of(FEW), Failure((kind,), server) if kind else NO_FAILURE, MANY_ORDERS)

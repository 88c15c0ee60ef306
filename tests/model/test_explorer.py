"""The search itself, on worlds of two counters; and that a reduced search of gmproxy finds the same outcomes as a complete one."""

import math

import pytest

from model.clients import script_of
from model.explorer import Touched, Violation, explore
from model.promises import CHANGES
from model.service import ALL_SERVICES, CLOSES, EVICTS, NO_FAILURE, TIMES_OUT, Failure
from model.world import World

STEPS = 3


class Counters:
    """Two counters. Each is incremented STEPS times."""

    def __init__(self, touches, forbidden=None, ends=None):
        self.counts = {"one": 0, "two": 0}
        self.touches = touches
        self.forbidden = forbidden
        self.ends = ends

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        pass

    def enabled(self):
        return [name for name, count in self.counts.items() if count < STEPS]

    def happen(self, event):
        self.counts[event] += 1
        if tuple(self.counts.values()) == self.forbidden:
            raise Violation("both have come so far")
        return Touched(frozenset(self.touches(event)))

    def finish(self):
        if self.ends is not None:
            self.ends.append(tuple(self.counts.values()))


def test_all_orders_of_events_that_depend_on_each_other():
    assert explore(lambda: Counters(lambda event: {"both"})).paths == math.comb(2 * STEPS, STEPS)


def test_one_order_of_events_that_are_independent():
    ends = []
    assert explore(lambda: Counters(lambda event: {event}, ends=ends)).paths == 1
    assert ends == [(STEPS, STEPS)]
    assert explore(lambda: Counters(lambda event: {event}), reduced=False).paths == math.comb(2 * STEPS, STEPS)


def test_the_shortest_path_to_a_violation():
    found = explore(lambda: Counters(lambda event: {"both"}, forbidden=(2, 1))).found
    assert len(found.path) == 3 and sorted(found.path) == ["one", "one", "two"]
    assert str(found).splitlines() == ["both have come so far", "after", *(f"  {n:2}. {event}" for n, event in enumerate(found.path, 1))]


def test_events_that_only_depend_on_the_same_are_independent():
    reads = Touched(frozenset(("reader",)), frozenset(("both",)))
    other = Touched(frozenset(("other",)), frozenset(("both",)))
    writes = Touched(frozenset(("both",)))
    assert reads.is_independent_of(other) and other.is_independent_of(reads)
    assert not reads.is_independent_of(writes) and not writes.is_independent_of(reads) and not writes.is_independent_of(writes)


def test_until_found():
    everywhere = explore(lambda: Counters(lambda event: {"both"}, forbidden=(1, 0)))
    first = explore(lambda: Counters(lambda event: {"both"}, forbidden=(1, 0)), until_found=True)
    assert first.found.violation == everywhere.found.violation and first.paths < everywhere.paths


@pytest.mark.parametrize(
    "service, one, other, failure",
    [
        ("backup, async", "set", "get", Failure((CLOSES,), "A")),
        ("backup, sync", "append", "set", NO_FAILURE),
        ("two servers", "set", "get of two", Failure((TIMES_OUT,), "A")),
        ("backup, async", "append", "add", Failure((TIMES_OUT,), "A")),
        ("backup, sync", "set", "append", Failure((EVICTS,), "A")),
        ("warming", "get", "set", NO_FAILURE),
        ("2 workers, two servers", "set", "append", NO_FAILURE),
        ("2 workers, backup, async", "set", "get", NO_FAILURE),
        ("2 proxies, backup, sync", "get", "delete", NO_FAILURE),
    ],
)
def test_the_reduction_loses_no_outcome(service, one, other, failure):
    """Compares the replies to the clients, which operation began after which write was acknowledged, and the final state of the servers."""

    def outcomes(reduced):
        judged = set()
        explore(lambda: World(ALL_SERVICES[service], [script_of(one, 1), script_of(other, 2)], failure, judged), reduced)
        return {
            (
                has_failed,
                *(tuple(each._replace(began=0, ended=0) for each in history) for history in histories),
                *(tuple(one.ended < each.began for one in history if one.kind in CHANGES for each in history) for history in histories),
                *rest,
            )
            for has_failed, *histories, items, state in judged
            for rest in [(items, state)]
        }

    assert outcomes(reduced=True) == outcomes(reduced=False)

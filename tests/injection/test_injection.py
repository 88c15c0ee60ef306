"""Wherever gmproxy's code raises, the internal error is logged, and all other clients are served.

Each point (points.py) is tried in the first part of the scenario that reaches it, in a single process; the points in OF_SEVERAL also with two
workers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from injection.conftest import Instrumented
from injection.exceptions import NOT_REACHED
from injection.points import Point, find, sources
from injection.stage import Servers
from injection.theatre import Theatre

pytestmark = pytest.mark.injection

POINTS = find(sources())

#: Modules that behave differently with several workers, or are only used then.
OF_SEVERAL = (
    "monitoring.admin_server",
    "system.control_socket",
    "process.counter_totals",
    "client.listener",
    "system.select_loop",
    "process.master",
    "process.worker_rpc",
    "process.worker_process",
    "monitoring.control_commands",
    "client.context",
    "process.client_counts",
    "process.orphans",
    "process.worker_context",
    "process.supervisor",
    "process.worker",
    "routing.held_writes",
    "shared.changes",
    "shared.ejections",
    "shared.invalidation_marks",
    "shared.memory",
)


#: Maximum number of further rehearsals for points that were not reached.
REHEARSALS = 3


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("stage")


@pytest.fixture(scope="module")
def alone(instrumented: Instrumented, servers: Servers, new_folder: Callable[[], Path]) -> Iterator[Theatre]:
    theatre = Theatre(instrumented.folder, instrumented.points, servers, new_folder)
    theatre.rehearse()
    yield theatre
    theatre.close()


@pytest.fixture(scope="module")
def several(instrumented: Instrumented, servers: Servers, new_folder: Callable[[], Path]) -> Iterator[Theatre]:
    theatre = Theatre(instrumented.folder, instrumented.points, servers, new_folder, "--workers", "2")
    theatre.rehearse()
    yield theatre
    theatre.close()


def twice(theatre: Theatre, point: Point) -> bool:
    """`theatre.inject(point)`, and once more with a new proxy if that fails: a real fault fails twice, a pause of the busy host does not."""
    try:
        return theatre.inject(point)
    except AssertionError:
        return theatre.inject(point)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_single_process(point: Point, alone: Theatre) -> None:
    if point not in alone.reach:
        pytest.skip("no part of a single process reaches it")
    if not twice(alone, point):
        pytest.skip(f"not reached this time, by {alone.reach[point]}")


@pytest.mark.parametrize("point", [point for point in POINTS if point.module in OF_SEVERAL], ids=str)
def test_several_workers(point: Point, several: Theatre) -> None:
    if point not in several.reach:
        pytest.skip("no part of two workers reaches it")
    if not twice(several, point):
        pytest.skip(f"not reached this time, by {several.reach[point]}")


def test_each_point_is_reached(alone: Theatre, several: Theatre) -> None:
    """Each point is reached by a part, or exceptions.py names it with a reason."""

    def missing() -> list[str]:
        reached = {str(point) for point in {*alone.reach, *several.reach}}
        return sorted(set(map(str, POINTS)) - reached - set(NOT_REACHED))

    for _ in range(REHEARSALS):  # some points are not reached each time
        if missing():
            alone.rehearse()
            several.rehearse()
    assert missing() == []

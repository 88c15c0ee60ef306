"""A worker's share of the limits of the whole service."""

import pytest

from gmproxy.process.worker_context import WorkerContext


@pytest.mark.parametrize(
    "total, workers, parts",
    [
        (20, 1, [20]),
        (20, 2, [10, 10]),
        (20, 3, [7, 7, 6]),
        (1, 3, [1, 1, 1]),
        (2, 3, [1, 1, 1]),
        (4, 3, [2, 1, 1]),
    ],
)
def test_a_part(total, workers, parts):
    assert [WorkerContext(number, workers).part_of(total) for number in range(workers)] == parts

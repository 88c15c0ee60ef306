"""The instrumented copy of gmproxy, which is kept between test sessions until a source changes; and the servers of the scenario."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gmproxy.compiled import COMPILED
from injection.instrument import digest, make_copy
from injection.points import Point, find, sources
from injection.stage import Servers

#: When another copy is made, copies that are older than this are removed, seconds. Another test session may still use a younger one.
KEPT_FOR = 3600


class Instrumented(NamedTuple):
    """`folder` has the package; the number of a point is its index in `points`."""

    folder: Path
    points: list[Point]


@pytest.fixture(scope="session")
def instrumented(request: pytest.FixtureRequest) -> Instrumented:
    """Made in the build that the other tests use: compiled or pure. One process makes it, others wait until it is there."""
    kept = request.config.cache.mkdir("injection")
    folder = kept / digest(COMPILED)
    with open(kept / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in kept.iterdir():
                if old.is_dir() and time.time() - old.stat().st_mtime > KEPT_FOR:
                    shutil.rmtree(old)
            new = kept / f"{folder.name}.new"
            shutil.rmtree(new, ignore_errors=True)
            make_copy(new, COMPILED)
            new.rename(folder)
    return Instrumented(folder, find(sources()))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers

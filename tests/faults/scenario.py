"""One run of the load under faults: what is started, what fails, and what must hold."""

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from support.timing import PATIENCE, Stopwatch, eventually

from faults import tally
from faults.driver import TWO_AT_ONCE, Driver
from faults.load import Load
from faults.pauses import Watch
from faults.report import complaint, table
from faults.stage import TIMEOUT, Footprint, Stage
from faults.worker import Rules

SEED = os.environ.get("FAULT_SEED", "1")

#: Seconds of each run of the long tests.
LONG_SECONDS = float(os.environ.get("GMPROXY_TEST_SECONDS", "20"))

#: Maximum growth of the memory of the proxy, bytes for each of its processes: its allocator keeps some memory after a load.
MEMORY_ALLOWANCE = 24 * 1024 * 1024

#: A server is ejected after its first timeout, and other servers stand in for it.
EJECT_AT_ONCE = ("--auto-eject-hosts", "--server-failure-limit", "1")


#: A server is warming for a second: else the new servers of a test would all be warming, and `read = near` and `spread` read the main set alone.
SOON_WARM = ("--warming-time", "1")


class Scenario(NamedTuple):
    name: str
    stage: dict
    faults: tuple
    two_at_once: float = TWO_AT_ONCE
    clients: int = 6

    @property
    def excused(self) -> frozenset[str]:
        """Kinds of violation that do not fail this scenario: if the network changes a byte of a value, only its checksum shows that."""
        damages = any(fault.name == "corrupted" for fault in self.faults)
        return frozenset([tally.DAMAGED] if damages else [])


def stage(primaries: int, backups: int, *options: str, **more: bool | int) -> dict:
    """The arguments of Stage, in one line."""
    return {"primaries": primaries, "backups": backups, "options": options, **more}


def described(chosen: Mapping[str, Any]) -> str:
    """A combination of options, {name: value}, as the name of a Scenario."""
    return ", ".join(f"{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in chosen.items())


def hung_after(sets: int) -> float:
    """Maximum duration of a request without pauses, seconds. A longer request hung. Each of the `sets` servers of its key may take a timeout, and the
    proxy checks a few times per timeout for replies that are late."""
    return (max(2, sets) + 1) * TIMEOUT


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


def check(scenario: Scenario, seconds: float, seed: int | str) -> None:
    """Run the load for `seconds`, print the results, and assert that nothing was wrong that is not excused."""
    with Stage(**scenario.stage) as staged:
        service = staged.service
        with Load(staged.proxy.port, "first", scenario.clients, seed):  # opens all connections, and lets buffers grow
            pass
        before = Footprint.of(service)
        driver = Driver(staged.victims, scenario.faults, seed, service, scenario.two_at_once)
        stopwatch = Stopwatch()
        rules = Rules(hung_after(staged.sets), service.pauses, service.cuts_off)
        with Watch(service.pauses, service.pids), Load(staged.proxy.port, "load", scenario.clients, seed, rules) as load:
            driver.run(seconds)
            staged.wait_until_whole()
        took = stopwatch.seconds
        paused = service.pauses.within(0, time.monotonic())
        staged.proxy.check_log()
        after = Footprint.of(service)
        print(table(f"{scenario.name}, seed {seed}", took, load.tally, driver.events, before, after, paused, scenario.excused))
        wrong = complaint(load.tally, driver.events, scenario.excused)
        if wrong:
            pytest.fail(f"seed {seed}\n{wrong}", pytrace=False)
        assert after.internal_errors == 0
        eventually(lambda: is_left_as_found(staged, before), what=f"it is as at first, {before}, and not {Footprint.of(service)}")
        assert after.memory - before.memory < MEMORY_ALLOWANCE * len(service.pids())
        assert staged.proxy.stop(PATIENCE) == 0

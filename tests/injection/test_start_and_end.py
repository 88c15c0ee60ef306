"""An exception at start-up, at shutdown and at an upgrade. It may prevent start-up, but it never leaves a file behind, never changes the exit
status of a shutdown, and never leaves clients unserved after an upgrade."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.servers import Proxy
from support.timing import PATIENCE, eventually

from injection.clients import HUNG_AFTER
from injection.conftest import Instrumented
from injection.exceptions import is_logged
from injection.injector import Injector
from injection.points import Point, find, sources
from injection.stage import Servers, Stage

pytestmark = pytest.mark.injection

#: Characters of the log that are shown if a service does not serve.
LOG_SHOWN = 2000

CREWS = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "several"])

#: Modules that start, stop or upgrade a service. The parts of the scenario test the others.
CONCERNED = (
    "client.listener",
    "process.listeners",
    "process.master",
    "process.single_process",
    "process.supervisor",
    "process.worker",
    "process.worker_process",
    "startup",
    "system.control_socket",
    "system.daemon",
    "system.systemd",
)


class Beginning:
    """Starts proxies. Each is used once."""

    def __init__(self, instrumented: Instrumented, servers: Servers, new_folder: Callable[[], Path], options: tuple[str, ...]) -> None:
        self.points = instrumented.points
        self.injector = Injector(new_folder() / "memory", len(self.points))
        self._last_of_start = list(map(str, self.points)).index("system.daemon:StartReport.report")
        self._new_stage = lambda: Stage(instrumented.folder, self.injector, servers, new_folder(), *options)

    @contextlib.contextmanager
    def serving(self, point: Point | None = None) -> Iterator[Stage]:
        """A stage without bystanders, with a proxy that serves. With a `point`, start-up raises there; `proxy` is None if it does not serve then."""
        stage = self._new_stage()
        self.injector.forget()
        try:
            if point is not None:
                self.injector.arm(self.points.index(point))
            with contextlib.suppress(AssertionError):
                stage.proxy = stage.launch()
            if point is None:
                eventually(lambda: self._last_of_start in self.injector.reached(), what="the start is over")
            yield stage
        finally:
            self.injector.disarm()
            if stage.proxy is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(stage.proxy.pid, signal.SIGKILL)
                Proxy.__exit__(stage.proxy)

    def reached(self, act: Callable[[Stage], object] | None = None) -> list[Point]:
        """The points in CONCERNED that `act` passes with a serving proxy; without `act`, those that start-up passes."""
        with self.serving() as stage:
            if act is not None:
                self.injector.forget()
                act(stage)
            found = [self.points[number] for number in sorted(self.injector.reached()) if self.points[number].module in CONCERNED]
        assert found, "nothing to try: is CONCERNED out of date?"
        return found


@pytest.fixture
def beginning(
    instrumented: Instrumented, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Beginning]:
    return lambda options: Beginning(instrumented, servers, lambda: tmp_path_factory.mktemp("stage"), options)


def end(stage: Stage) -> int:
    stage.proxy.signal(signal.SIGTERM)
    return stage.proxy.wait(HUNG_AFTER)


def end_or_ended(stage: Stage) -> int | None:
    """End the proxy and return its exit status; None if it does not end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return end(stage)
    return None


def upgrade(stage: Stage) -> None:
    """Start an upgrade, and wait until the log shows its outcome."""
    stage.proxy.signal(signal.SIGUSR2)
    eventually(
        lambda: any(word in stage.proxy.log() for word in ("upgraded successor", "upgrade refused", "internal error")),
        within=2 * PATIENCE,
    )


def is_served(stage: Stage) -> bool:
    """True if a new client can store a value. A client of the process that ends may be disconnected."""
    with contextlib.suppress(AssertionError, OSError), stage.connector("alpha")() as talk:
        return talk.ask(b"set k 0 0 1\r\nx\r\n") == b"STORED\r\n"
    return False


def leftovers(stage: Stage) -> list[Path]:
    return [path for path in (stage.control, stage.pid_file) if path.exists()]


def test_the_modules_are_there() -> None:
    assert set(CONCERNED) <= {point.module for point in find(sources())}


@pytest.mark.long
@CREWS
def test_at_the_end(options: tuple[str, ...], beginning: Callable[[tuple[str, ...]], Beginning]) -> None:
    play = beginning(options)
    failures = []
    for point in play.reached(end):
        with play.serving() as stage:
            play.injector.arm(play.points.index(point))
            status = end_or_ended(stage)
            told = stage.told_of(play.points.index(point)) or not is_logged(str(point)) or not play.injector.has_raised()
            if status != 0 or leftovers(stage) or not told:
                failures.append(f"{point}: status {status}, left {leftovers(stage)}, logged {bool(told)}")
    assert not failures, "\n".join(failures)


@pytest.mark.long
@CREWS
def test_at_the_start(options: tuple[str, ...], beginning: Callable[[tuple[str, ...]], Beginning]) -> None:
    """The proxy serves, or exits with a status that reports the failure. It leaves no files."""
    play = beginning(options)
    failures = []
    for point in play.reached():
        with play.serving(point) as stage:
            if stage.proxy is not None:
                status = end_or_ended(stage)
                if status not in (0, 1) or leftovers(stage):  # 1: one of its ports accepted clients, but start-up failed
                    failures.append(f"{point}: served, then status {status}, left {leftovers(stage)}")
            elif leftovers(stage):
                failures.append(f"{point}: did not start, left {leftovers(stage)}")
    assert not failures, "\n".join(failures)


@pytest.mark.long
@CREWS
def test_at_an_upgrade(options: tuple[str, ...], beginning: Callable[[tuple[str, ...]], Beginning]) -> None:
    """Clients are served afterwards, by the old process or its successor."""
    play = beginning(options)
    failures = []
    for point in play.reached(upgrade):
        with play.serving() as stage:
            play.injector.arm(play.points.index(point))
            try:
                upgrade(stage)
                eventually(lambda: is_served(stage), within=PATIENCE, what="clients are served")
            except (AssertionError, OSError) as error:
                failures.append(f"{point}: {str(error)[:300]}\n{stage.proxy.log()[-LOG_SHOWN:]}")
    assert not failures, "\n".join(failures)

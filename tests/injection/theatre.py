"""Runs the scenario: first without a fault, to record which part reaches which point, then with one fault after the other."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from support.timing import TICK, eventually

from injection.clients import HUNG_AFTER
from injection.exceptions import ENDS_A_WORKER, is_logged
from injection.injector import Injector
from injection.parts import CLOSING, FOR_WORKERS, PARTS, RELOADING, Part
from injection.points import Point
from injection.stage import Servers, Stage

#: Exceptions that a control command, an HTTP request or a client may raise in a part with a fault. Stage.settle then checks that the proxy serves.
UPSET = (OSError, EOFError, ValueError, LookupError, AssertionError)

#: A proxy is replaced after this number of faults, so that its log stays short: it is searched after each.
FAULTS_EACH = 60


#: Seconds after the end of a part in which it may still reach a point.
LATE = 10 * TICK

#: How often each part is run for a point that it does not reach each time.
ATTEMPTS = 2


class Theatre:
    """
    points   all points, by number
    reach    {point: the parts that reached it in a rehearsal}
    """

    def __init__(self, copy: Path, points: list[Point], servers: Servers, new_folder: Callable[[], Path], *options: str) -> None:
        self.points = points
        self.reach: dict[Point, list[str]] = {}
        self._new_folder = new_folder
        self._injector = Injector(new_folder() / "memory", len(points))
        self._new_stage = lambda: Stage(copy, self._injector, servers, new_folder(), *options)
        self._has_workers = "--workers" in options
        self._stage: Stage | None = None
        self._faults = 0

    def rehearse(self) -> None:
        """Run every part once, without a fault, and record which points it reaches. Points of start-up and shutdown do not count."""
        stage = self._on_stage()
        for name, part in self._parts().items():
            self._injector.forget()
            with stage.watched():
                part(stage)
                stage.settle()
                assert name in CLOSING or not stage.victims(), f"{name} without a fault: clients were cut off"
                assert not stage.troubles()
            for number in self._injector.reached():
                self.reach.setdefault(self.points[number], []).append(name)

    def _parts(self) -> dict[str, Part]:
        return {name: part for name, part in PARTS.items() if self._has_workers or name not in FOR_WORKERS}

    def inject(self, point: Point) -> bool:
        """Run the first part that reaches `point`, which raises once. Returns False if no part reaches it this time. Raises AssertionError if
        other clients are affected."""
        stage = self._on_stage()
        self._faults += 1
        try:
            for name in self.reach[point] * ATTEMPTS:
                if self._play(stage, point, name):
                    return True
            return False
        except BaseException:
            self._leave(stage)
            raise

    def _play(self, stage: Stage, point: Point, name: str) -> bool:
        """Run the part `name`. Returns False if it has not reached `point`."""
        number = self.points.index(point)
        with stage.watched():
            self._injector.arm(number)
            try:
                with contextlib.suppress(*UPSET):
                    PARTS[name](stage)
                with contextlib.suppress(AssertionError):
                    eventually(self._injector.has_raised, within=LATE, what=f"{name} reaches {point}")
            finally:
                raised = self._injector.has_raised()
                self._injector.disarm()
            assert stage.proxy.is_running, f"the proxy ended: {stage.proxy.log()[-3000:]}"
            if name in RELOADING:
                eventually(lambda: "error" not in stage.order("reload"), within=HUNG_AFTER, what="another reload")
            stage.settle()
            assert not stage.troubles(), stage.troubles()
            assert name in CLOSING or str(point) in ENDS_A_WORKER or stage.victims() <= 1, (
                f"{stage.victims()} clients were cut off, or told of an internal error"
            )
            assert not raised or not is_logged(str(point)) or stage.told_of(number), "the log does not tell of it as an internal error"
        return raised

    def _on_stage(self) -> Stage:
        if self._stage is not None and self._faults >= FAULTS_EACH:
            self.close()
        if self._stage is None:
            self._faults = 0
            self._stage = self._new_stage().__enter__()
            self._stage.note_rest()
        return self._stage

    def close(self) -> None:
        """End the proxy. Its exit status must be 0 after all the faults."""
        if self._stage is None:
            return
        stage, self._stage = self._stage, None
        try:
            stage.end_bystanders()
            stage.proxy.signal(signal.SIGTERM)
            assert stage.proxy.wait(HUNG_AFTER) == 0, stage.proxy.log()[-3000:]
        finally:
            self._leave(stage)

    def _leave(self, stage: Stage) -> None:
        self._stage = None
        stage.__exit__()

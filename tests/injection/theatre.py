"""Plays the scenario: without a fault, to learn which part reaches which point, and then with one fault after the other."""

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

#: What an order, a question or a client may raise in a part in which a fault was injected; the stage is then asked whether it is well.
UPSET = (OSError, EOFError, ValueError, LookupError, AssertionError)

#: A proxy is replaced after so many faults, so that a log stays short enough to be searched each time.
FAULTS_EACH = 60


#: What a part has not reached so many seconds after its end, it will not.
LATE = 10 * TICK

#: Times that the parts are played for a point that they reach only now and then.
ATTEMPTS = 2


class Theatre:
    """
    points   what `inject` knows, by number
    reach    {point: the parts that reached it at the rehearsal}
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
        """Play every part once, without a fault. The points of the start and the end are not among those that parts reach."""
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
        """Have `point` raise, once, in the first part that reaches it. False if none does this time: some points are reached only now and
        then. AssertionError if others suffer."""
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
        """False if the part has not reached it."""
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
        """After all that it has lived through the proxy must end as it should."""
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

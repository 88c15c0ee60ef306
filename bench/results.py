"""The results in a file: every sample, so that tables and plots can be made again without a new measurement."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from curves import CURVES, Curve
from processes import BenchError
from report import Samples
from rows import ROWS, AnyRow, Row

Syscalls = dict[Row, dict[str, dict[str, float]]]  # row -> contender -> name -> calls per operation


class Results:
    """`rows`: name -> {"sentence", "samples", "syscalls"}; `curves`: name -> the points as measure_curves.py makes them."""

    def __init__(self, machine: dict, rows: dict, curves: dict):
        self.machine = machine
        self.rows = rows
        self.curves = curves

    @classmethod
    def of_this_machine(cls) -> "Results":
        return cls(describe_machine(), {}, {})

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls(**json.loads(path.read_text()))

    def add_rows(self, samples: dict[AnyRow, Samples], syscalls: Syscalls) -> None:
        for row, of_row in samples.items():
            self.rows[row.name] = {"sentence": row.sentence, "samples": of_row, "syscalls": syscalls.get(row, {})}

    def samples(self) -> dict[AnyRow, Samples]:
        return {row: self.rows[name]["samples"] for name, row in ROWS.items() if name in self.rows}

    def syscalls(self) -> Syscalls:
        return {row: self.rows[name]["syscalls"] for name, row in ROWS.items() if self.rows.get(name, {}).get("syscalls")}

    def points(self) -> dict[Curve, list[dict]]:
        """The points of each curve that was measured. An error if curves.py has changed since."""
        points = {curve: self.curves[name] for name, curve in CURVES.items() if name in self.curves}
        for curve, of_curve in points.items():
            expected = [(x, [series.name for series in curve.series]) for x in curve.xs]
            if [(point["x"], list(point["cpu_us"])) for point in of_curve] != expected:
                raise BenchError(f"{curve.name} has changed since it was measured: measure it again with --only {curve.name}")
        return points

    def write(self, path: Path) -> None:
        document = {"machine": self.machine, "rows": self.rows, "curves": self.curves}
        path.write_text(json.dumps(document, indent=1) + "\n")


def describe_machine() -> dict[str, str]:
    """What the figures depend on, without names of hosts or users."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cores": str(os.cpu_count()),
        "CPU": model[1] if model else platform.machine(),
        "kernel": "Linux " + ".".join(platform.release().split(".")[:2]),
        "Python": platform.python_version(),
        "gevent": metadata.version("gevent"),
        "memcached": version_of("memcached"),
        "nutcracker": version_of("nutcracker"),
    }


def version_of(program: str) -> str:
    """The version that `program -V` prints, on stdout or stderr."""
    if not shutil.which(program):
        return "none"
    said = subprocess.run([program, "-V"], capture_output=True, text=True)
    return re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)[0]

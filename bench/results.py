"""What was measured, as it is kept in a file: every sample, so that tables and plots can be made anew without measuring."""

import json
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from report import Samples
from rows import ROWS, AnyRow, Row

Syscalls = dict[Row, dict[str, dict[str, float]]]  # row -> contender -> name -> calls per operation


class Results:
    """`rows`: name -> {"sentence", "samples", "syscalls"}; `curves`: name -> {"points"}, see curves.py."""

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
        return {ROWS[name]: stored["samples"] for name, stored in self.rows.items() if name in ROWS}

    def syscalls(self) -> Syscalls:
        return {ROWS[name]: stored["syscalls"] for name, stored in self.rows.items() if name in ROWS and stored["syscalls"]}

    def write(self, path: Path) -> None:
        document = {"machine": self.machine, "rows": self.rows, "curves": self.curves}
        path.write_text(json.dumps(document, indent=1, default=vars) + "\n")


def describe_machine() -> dict[str, str]:
    """In general words: what a figure depends on."""
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
    """What `program -V` calls its version, on whichever stream."""
    if not shutil.which(program):
        return "none"
    said = subprocess.run([program, "-V"], capture_output=True, text=True)
    return re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)[0]

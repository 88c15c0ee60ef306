"""Runs of the load generator against one proxy, with the CPU time that the proxy uses for exactly the counted operations."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import BenchError, Server, cpu_spent

SOURCE = Path(__file__).with_name("loadgen.c")
CHECKED_OPS = 2000
MAX_SECONDS = 60  # of a counted run: a very slow proxy is measured over fewer operations


class Run:
    """One load generator, connected and warmed up, which waits for `go`. `what` names the run in error messages."""

    def __init__(self, generator: subprocess.Popen, proxy: Server, what: str):
        self._generator = generator
        self._proxy = proxy
        self._what = what
        self._read_line()

    def go(self) -> None:
        self._before = self._proxy.cpu()
        self._open_gate()

    def result(self) -> dict:
        """Waits for the end. Returns the sample: the output of the load generator, and the CPU time of the proxy and of the generator."""
        sample = json.loads(self._read_line())
        after = self._proxy.cpu()
        self._open_gate()
        complaint = self._generator.stderr.read().strip()
        if sample["errors"]:
            raise BenchError(f"{self._what}: {sample['errors']} errors; {complaint}")
        if sample["ops"]:
            sample["cpu_us_per_op"] = cpu_spent(self._proxy.name, self._before, after) / 1e3 / sample["ops"]
            sample["loadgen_cpu_us_per_op"] = sample["loadgen_cpu_seconds"] * 1e6 / sample["ops"]
            sample["loadgen_share"] = sample["loadgen_cpu_seconds"] / sample["seconds"] / len(os.sched_getaffinity(0))
        return sample

    def _read_line(self) -> str:
        line = self._generator.stdout.readline()
        if not line:
            raise BenchError(f"{self._what}: {self._generator.stderr.read().strip()}")
        return line

    def _open_gate(self) -> None:
        self._generator.stdin.write("go\n")
        self._generator.stdin.flush()


class LoadGenerator:
    """`load` are the options that define the row, `options` those of this run only."""

    def __init__(self, directory: Path):
        self._program = directory / "loadgen"
        compiled = subprocess.run(
            ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", self._program, SOURCE], capture_output=True, text=True
        )
        if compiled.returncode:
            raise BenchError(f"{SOURCE.name} does not compile:\n{compiled.stderr}")

    def preload(self, load: str, proxy: Server) -> None:
        self._whole_run(load, proxy, "--preload --ops 0")

    def check(self, load: str, proxy: Server) -> None:
        """Reads the items that another proxy has stored: a proxy that maps a key to another server gets a miss."""
        sample = self._whole_run(load, proxy, f"--get-only --ops {CHECKED_OPS}")
        if sample["misses"]:
            raise BenchError(
                f"{proxy.name} misses {sample['misses']} keys that were stored through another proxy:"
                " it does not map keys to servers as the others do"
            )

    def measure(self, load: str, proxy: Server, options: str, may_miss: bool = False) -> dict:
        """One sample. A miss is a fault, unless the load is defined to have misses."""
        sample = self._whole_run(load, proxy, options)
        if sample["misses"] and not may_miss:
            raise BenchError(f"{sample['misses']} gets missed through {proxy.name}: {load}")
        return sample

    def _whole_run(self, load: str, proxy: Server, options: str) -> dict:
        with self.started(load, proxy, options) as run:
            run.go()
            return run.result()

    @contextmanager
    def started(self, load: str, proxy: Server, options: str) -> Iterator[Run]:
        command = [
            self._program, *proxy.target, "--verify", "--gate", "--seconds", str(MAX_SECONDS),
            *shlex.split(load), *shlex.split(options),
        ]  # fmt: skip
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as generator:
            try:
                yield Run(generator, proxy, f"{load} through {proxy.name}")
            except BaseException:
                generator.kill()
                raise

"""One run of the load generator against one proxy, with the CPU of the proxy around exactly the counted operations."""

import json
import shlex
import subprocess
from pathlib import Path

from processes import BenchError, Server, cpu_spent
from rows import Row

SOURCE = Path(__file__).with_name("loadgen.c")
CHECKED_OPS = 2000
MAX_SECONDS = 60  # of a counted run: a very slow proxy is measured over fewer operations


class LoadGenerator:
    def __init__(self, directory: Path):
        self._program = directory / "loadgen"
        compiled = subprocess.run(
            ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", self._program, SOURCE], capture_output=True, text=True
        )
        if compiled.returncode:
            raise BenchError(f"{SOURCE.name} does not compile:\n{compiled.stderr}")

    def preload(self, row: Row, proxy: Server) -> None:
        self._run(row, proxy, "--preload --ops 0")

    def check(self, row: Row, proxy: Server) -> None:
        """Reads what another proxy has stored: whoever maps a key to another server finds nothing there."""
        sample = self._run(row, proxy, f"--get-only --ops {CHECKED_OPS}")
        if sample["misses"]:
            raise BenchError(
                f"{proxy.name} misses {sample['misses']} keys that were stored through another proxy:"
                " it does not map keys to servers as the others do"
            )

    def measure(self, row: Row, proxy: Server, ops: int, seed: int) -> dict:
        sample = self._run(row, proxy, f"--ops {ops} --warmup {ops // 20} --seed {seed}", measured=True)
        if sample["misses"]:
            raise BenchError(f"{row.name}: {sample['misses']} gets missed through {proxy.name}")
        return sample

    def _run(self, row: Row, proxy: Server, options: str, measured: bool = False) -> dict:
        command = [
            self._program, "--port", str(proxy.port), *shlex.split(row.load), *shlex.split(options),
            "--verify", "--gate", "--seconds", str(MAX_SECONDS),
        ]  # fmt: skip
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as generator:
            try:
                self._read_line(generator, row, proxy)
                before = proxy.cpu()
                self._open_gate(generator)
                sample = json.loads(self._read_line(generator, row, proxy))
                after = proxy.cpu()
                self._open_gate(generator)
                complaint = generator.stderr.read().strip()
            except BaseException:
                generator.kill()
                raise
        if sample["errors"]:
            raise BenchError(f"{row.name} through {proxy.name}: {sample['errors']} errors; {complaint}")
        if measured:
            sample["cpu_us_per_op"] = cpu_spent(proxy.name, before, after) / 1e3 / sample["ops"]
            sample["loadgen_cpu_us_per_op"] = sample["loadgen_cpu_seconds"] * 1e6 / sample["ops"]
        return sample

    @staticmethod
    def _read_line(generator: subprocess.Popen, row: Row, proxy: Server) -> str:
        line = generator.stdout.readline()
        if not line:
            raise BenchError(f"{row.name} through {proxy.name}: {generator.stderr.read().strip()}")
        return line

    @staticmethod
    def _open_gate(generator: subprocess.Popen) -> None:
        generator.stdin.write("go\n")
        generator.stdin.flush()

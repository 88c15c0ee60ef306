"""System calls of a proxy per operation, counted by strace in a separate run: strace slows the proxy, but does not change its calls."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from load import LoadGenerator
from processes import BenchError, Server
from rows import Row

SHARE = 10  # a tenth of the operations of a measured run
STOP_SECONDS = 10  # for strace to detach from the proxy and to write its counts
SEED = 1


def measure_syscalls(row: Row, proxy: Server, generator: LoadGenerator) -> dict[str, float]:
    """Name -> calls per operation. The calls of the load generator and memcached are not counted."""
    ops = row.ops // SHARE
    with generator.started(row.load, proxy, f"--ops {ops} --warmup {ops // SHARE} --seed {SEED}") as run:
        with counted(proxy) as calls:
            run.go()
            sample = run.result()
    return {name: count / sample["ops"] for name, count in calls.items()}


@contextmanager
def counted(proxy: Server) -> Iterator[dict[str, int]]:
    """The dict that is yielded is empty until the end."""
    calls: dict[str, int] = {}
    with TemporaryDirectory(prefix="gmproxy-bench-") as directory:
        counts = Path(directory, "counts")
        pids = proxy.pids()
        command = ["strace", "-c", "-f", "-o", str(counts), *(f"--attach={pid}" for pid in pids)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                for _ in pids:
                    said = strace.stderr.readline()
                    if "attached" not in said:
                        raise BenchError(f"strace cannot look at {proxy.name}: {said.strip()}")
                yield calls
                strace.send_signal(signal.SIGINT)
                strace.wait(STOP_SECONDS)
            except BaseException:
                strace.kill()
                raise
        calls.update(read_counts(counts.read_text()))


def read_counts(text: str) -> dict[str, int]:
    """Lines such as `32.10    0.001234           2       617         3 recvfrom`. Errors may be missing. The last line is the sum."""
    calls = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls

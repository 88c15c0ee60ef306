"""The processes of the bench: started, measured with all their threads and children, and always ended."""

import os
import random
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # children run here: `python -m gmproxy` is that of this tree
START_SECONDS = 10  # a proxy that needs longer for the reply to its first get is broken, not slow
STOP_SECONDS = 5  # for requests in flight, before SIGKILL
LOG_LINES_SHOWN = 15

# Below the ports that the kernel gives to outgoing connections (32768 and up), so that no connection of the bench occupies
# a port on which a child is about to listen. Each is used once.
_ports = iter(random.sample(range(20_000, 32_000), 12_000))


#: A port of the loopback, or the path of a unix socket.
Address = int | Path


class BenchError(Exception):
    """The measurement cannot continue. The text is the reason, for the user at the terminal."""


class Server:
    """A child process that listens on the loopback, or on a unix socket.

    It has its own session: a Ctrl-C at the terminal reaches only the bench, which then ends its children itself,
    and killpg reaches every worker that the child has forked.
    """

    def __init__(self, name: str, command: list[str], address: Address, directory: Path):
        self.name = name
        self.address = address
        self._log = directory / f"{name}.log"
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:
                raise BenchError(f"{name} cannot be started: {error}") from None

    @property
    def target(self) -> list[str]:
        """The address as an option of loadgen."""
        return ["--unix", str(self.address)] if isinstance(self.address, Path) else ["--port", str(self.address)]

    def connect(self, timeout: float) -> socket.socket:
        """Returns a client's connection. Raises OSError."""
        if not isinstance(self.address, Path):
            return socket.create_connection(("127.0.0.1", self.address), timeout)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(str(self.address))
        except OSError:
            sock.close()
            raise
        return sock

    def answers_a_get(self) -> bool:
        try:
            with self.connect(timeout=1) as connection:
                connection.sendall(b"get is-it-up\r\n")
                return connection.recv(16) == b"END\r\n"
        except OSError:
            return False

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers_a_get():
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended with status {self._process.returncode}{self._last_words()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} answered no get within {START_SECONDS} s{self._last_words()}")
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """The pids of the process and of its descendants."""
        return family(self._process.pid)

    def cpu(self) -> dict[int, int]:
        """CPU nanoseconds so far, of the process and of each of its descendants."""
        return {pid: cpu_nanoseconds(pid) for pid in self.pids()}

    def resident(self) -> int:
        """Bytes of memory used now by the process and all its descendants. Shared memory is divided among them."""
        return sum(proportional_set_size(pid) for pid in self.pids())

    def run_on(self, cores: set[int]) -> None:
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)

    def end(self) -> None:
        """Send SIGTERM; does not wait."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        self.end()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # processes that did not end, and workers that are left
        except ProcessLookupError:
            pass
        self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "".join(f"\n    {line}" for line in lines)


def cpu_nanoseconds(pid: int) -> int:
    """From the CPU clock that the kernel keeps for each process, found by the number that clock_getcpuclockid(3) gives.

    It is as precise as schedstat, and unlike a sum over /proc/PID/task it includes the time of threads that have ended.
    """
    return time.clock_gettime_ns(~pid << 3 | 2)


def proportional_set_size(pid: int) -> int:
    fields = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    return int(fields[fields.index("Pss:") + 1]) * 1024


def cpu_spent(name: str, before: dict[int, int], after: dict[int, int]) -> int:
    if lost := before.keys() - after.keys():
        raise BenchError(f"process {min(lost)} of {name} ended while it was measured: its CPU time is lost")
    return sum(after.values()) - sum(before.values())


def family(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def end_stragglers() -> None:
    """Kill child processes whose start was interrupted by a signal before their pid was stored."""
    for pid in family(os.getpid())[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def free_port() -> int:
    for port in _ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise BenchError("no free port")


def raise_file_limit() -> None:
    """Raise the open files limit to the maximum. Children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

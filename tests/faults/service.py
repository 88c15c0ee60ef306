"""Faults of the proxy itself: it is stopped, an operator ejects a server, switches a set off or reloads, one of its workers is killed."""

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from support.servers import Proxy
from support.timing import eventually

from faults.pauses import Pauses
from gmproxy.errors import GmproxyError
from gmproxy.system import control_socket

#: Keys per second of a refill, at most.
MOST_KEYS = "100000"

#: A reload changes one of these settings. None of them has an effect that a client can see.
SETTINGS = ("slow-threshold = 100\n", "slow-threshold = 200\n", "server-idle-timeout = 50\n")


class Service:
    """`proxy` has its control socket at `path` and reads the configuration `file`. `labels` are its servers, `replicas` its replica sets.

    name      its name in tables, as of a Node
    pauses    times in which it was stopped, or a worker was replaced
    """

    name = "the proxy"

    @property
    def nodes(self) -> list["Service"]:
        """What fails with it, as of a Node."""
        return [self]

    def __init__(self, proxy: Proxy, path: Path, file: Path, labels: list[str], pauses: Pauses, replicas: Sequence[str] = ()) -> None:
        self.proxy = proxy
        self.pauses = pauses
        self._path = str(path)
        self._file = file
        self._labels = labels
        self._replicas = replicas
        self._stopped_at = 0.0
        self._ejected = ""
        self._off = ""
        self._pids: list[int] = [proxy.pid]
        self._cut_off: set[int] = set()
        self.refresh_pids()

    # -- its processes

    def order(self, *words: str) -> dict:
        """Send a control command, and return its reply. Raises OSError or gmproxy.errors.GmproxyError if there is none."""
        return control_socket.send_command(self._path, *words)

    def refresh_pids(self) -> None:
        """Read the process IDs again: a worker may have been replaced."""
        with suppress(Exception):  # a worker that was just killed does not reply
            self._pids = sorted({self.proxy.pid, *self.order("pids")["workers"]})

    def pids(self) -> list[int]:
        """The process IDs that were read last. May be called from any thread."""
        return self._pids

    def descriptors(self) -> int:
        """The number of open file descriptors of all its processes."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids)

    # -- stops

    def stop(self) -> None:
        self._stopped_at = time.monotonic()
        os.killpg(self.proxy.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.proxy.pid, signal.SIGCONT)
        self.pauses.add(self._stopped_at, time.monotonic())

    # -- control commands

    def eject(self, chance: random.Random) -> None:
        self._ejected = chance.choice(self._labels)
        self.order("eject", self._ejected)

    def restore(self) -> None:
        self.order("restore", self._ejected)

    def switch_off(self, chance: random.Random) -> None:
        """Switch a replica set off: it misses all writes."""
        self._off = chance.choice(self._replicas)
        self.order("replica", self._off, "off")

    def switch_on(self) -> None:
        self.order("replica", self._off, "on")

    def refill(self, chance: random.Random) -> None:
        """Fill a server from the other sets, in the background. It is refused while the server is down, or is being filled."""
        with suppress(GmproxyError):
            self.order("refill-begin", chance.choice(self._labels), MOST_KEYS)

    def reload(self, chance: random.Random) -> None:
        self._file.write_text(chance.choice(SETTINGS))
        self.proxy.signal(signal.SIGHUP)

    # -- a worker that is killed

    def kill_a_worker(self, chance: random.Random) -> None:
        """Kill a worker. Its clients are recorded before, so that no lost connection of another worker is excused."""
        self.refresh_pids()
        workers = [pid for pid in self._pids if pid != self.proxy.pid]
        victim = chance.choice(workers)
        stopped_at = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        self._cut_off |= clients_of(victim, self.proxy.port)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: self.proxy.stats()["threads"] == len(workers), what="another worker serves")
        self.pauses.add(stopped_at, time.monotonic())  # a client that connects meanwhile may have to wait for the new worker

    def cuts_off(self, port: int) -> bool:
        """True if the worker of the client with this port was killed. Forgets the port: call it once for each lost connection."""
        if port in self._cut_off:
            self._cut_off.discard(port)
            return True
        return False


def clients_of(pid: int, port: int) -> set[int]:
    """The ports of the clients that the process `pid` serves on `port`."""
    sockets = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            sockets.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return {int(row[2].split(":")[1], 16) for row in rows if row[1].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in sockets}

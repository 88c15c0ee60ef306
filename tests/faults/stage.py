"""The servers, the relays to them, and gmproxy."""

import os
import tempfile
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from support.relay import Relay
from support.servers import Memcached, Proxy, read_stats, server_options
from support.timing import PATIENCE, TICK, eventually, milliseconds

from faults.pauses import Pauses
from faults.service import Service

#: Options of the proxy, besides its servers: it notices soon that a server fails, and probes it often.
TIMEOUT = 2 * TICK
OPTIONS = (
    "--timeout",
    milliseconds(2),
    "--connect-timeout",
    milliseconds(2),
    "--server-retry-timeout",
    milliseconds(8),
    "--server-failure-limit",
    "3",
)


class Node:
    """A memcached server, and the relay in front of it if there is one."""

    def __init__(self, name, server, relay):
        self.name = name
        self.server = server
        self.relay = relay
        self.address = server.address if relay is None else relay.address

    @property
    def nodes(self):
        """What fails with it: itself."""
        return [self]


class NodeSet(NamedTuple):
    """All servers of a set, which fail at the same time."""

    name: str
    nodes: list[Node]


class Footprint(NamedTuple):
    """What the proxy holds while the only client is the test that reads `stats`."""

    links: int  # to servers
    unfinished: int  # writes, fills and given-up connections that are not over, pending invalidations, and servers that have some
    descriptors: int  # open file descriptors of all its processes
    memory: int  # resident bytes of all its processes
    internal_errors: int

    @classmethod
    def of(cls, service):
        with service.proxy.talk() as talk:
            eventually(lambda: read_stats(talk)["curr_connections"] == 1, what="all other clients have gone")
            stats = read_stats(talk)
            service.refresh_pids()
            unfinished = sum(stats[name] for name in ("links_lingering", "changes_undecided", "fetches", "journal_keys", "backends_behind"))
            memory = sum(map(resident, service.pids()))
            return cls(stats["backend_links"], unfinished, service.descriptors(), memory, stats["internal_errors"])


class Stage:
    """Servers and a proxy. Use it in a `with`.

    primaries, backups   lists of Node
    replicas             a list of NodeSet, each with as many servers as there are primaries
    service              the Service that causes faults of the proxy

    With `journal`, the proxy keeps its pending invalidations in files.

    If GMPROXY_TEST_MEMCACHED names a memcached, every second server runs that program.
    """

    def __init__(self, primaries=2, backups=0, wires=False, options=(), workers=1, journal=False, replicas=0):
        self._stack = ExitStack()
        self._programs = cycle((None, os.environ.get("GMPROXY_TEST_MEMCACHED") or None))
        try:
            self.primaries = [self._node(f"primary {number}", wires) for number in range(1, primaries + 1)]
            self.backups = [self._node(f"backup {number}", wires) for number in range(1, backups + 1)]
            self.replicas = [
                NodeSet(f"replica {index}", [self._node(f"replica {index}, server {number}", wires) for number in range(1, primaries + 1)])
                for index in range(1, replicas + 1)
            ]
            where = server_options(self.primaries, self.backups, [replica.nodes for replica in self.replicas])
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            control, file = folder / "control", folder / "gmproxy.conf"
            file.write_text("")
            how = ("--control", control, "-c", file, "--workers", workers)
            if journal:
                how += ("--journal-dir", folder / "journal")
            self.proxy = self._stack.enter_context(Proxy(*where, *OPTIONS, *how, *options))
            eventually(lambda: self.proxy.stats()["threads"] == workers, what="all workers serve")
            names = [f"replica{index}" for index in range(1, replicas + 1)]
            self.service = Service(self.proxy, control, file, [node.address for node in self.nodes], Pauses(), names)
        except BaseException:
            self._stack.close()
            raise

    def _node(self, name, wires):
        server = self._stack.enter_context(Memcached(program=next(self._programs)))
        return Node(name, server, self._stack.enter_context(Relay(server)) if wires else None)

    @property
    def nodes(self):
        return self.primaries + self.backups + [node for replica in self.replicas for node in replica.nodes]

    @property
    def victims(self):
        """What may fail: each server, and with replicas each set as a whole."""
        return self.nodes + ([NodeSet("the main set", self.primaries), *self.replicas] if self.replicas else [])

    @property
    def sets(self):
        """The number of servers that may be asked for a key, one after the other."""
        return 1 + bool(self.backups) + len(self.replicas)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._stack.close()

    def wait_until_whole(self):
        """Wait until no server is ejected."""
        eventually(lambda: self.proxy.stats()["backends_ejected"] == 0, within=PATIENCE, what="every server is restored")


def resident(pid):
    """Bytes of resident memory of a process."""
    return _memory(pid, "VmRSS")


def most_resident(pid):
    """The maximum of its resident memory so far, bytes."""
    return _memory(pid, "VmHWM")


def _memory(pid, name):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {name}")

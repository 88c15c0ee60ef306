"""The servers, the wires to them, and the proxy."""

from contextlib import ExitStack
from typing import NamedTuple

from support.relay import Relay
from support.servers import Memcached, Proxy, read_stats
from support.timing import PATIENCE, TICK, eventually, milliseconds

#: How the proxy is started, beside its servers: a server that fails is noticed soon, and often asked how it is.
TIMEOUT = 2 * TICK
OPTIONS = (
    "--timeout", milliseconds(2), "--connect-timeout", milliseconds(2), "--server-retry-timeout", milliseconds(8),
    "--server-failure-limit", "3",
)


class Node:
    """A memcached server, and the wire to it if there is one."""

    def __init__(self, name, server, relay):
        self.name = name
        self.server = server
        self.relay = relay
        self.address = server.address if relay is None else relay.address


class Footprint(NamedTuple):
    """What the proxy holds when it has no client but one, who asks."""

    links: int          # to servers
    unfinished: int     # changes, refills and given-up connections that somebody still waits for
    descriptors: int    # open files
    memory: int         # bytes

    @classmethod
    def of(cls, proxy):
        with proxy.talk() as talk:
            eventually(lambda: read_stats(talk)["curr_connections"] == 1, what="all other clients have gone")
            stats = read_stats(talk)
            unfinished = stats["links_lingering"] + stats["changes_undecided"] + stats["fetches"]
            return cls(stats["backend_links"], unfinished, proxy.descriptors(), resident(proxy.pid))


class Stage:
    """`primaries` and `backups` are lists of Node. Use it in a `with`."""

    def __init__(self, primaries=2, backups=0, wires=False, options=()):
        self._stack = ExitStack()
        try:
            self.primaries = [self._node(f"primary {number}", wires) for number in range(1, primaries + 1)]
            self.backups = [self._node(f"backup {number}", wires) for number in range(1, backups + 1)]
            where = [word for node in self.primaries for word in ("-s", node.address)]
            where += [word for node in self.backups for word in ("-b", node.address)]
            self.proxy = self._stack.enter_context(Proxy(*where, *OPTIONS, *options))
        except BaseException:
            self._stack.close()
            raise

    def _node(self, name, wires):
        server = self._stack.enter_context(Memcached())
        return Node(name, server, self._stack.enter_context(Relay(server)) if wires else None)

    @property
    def nodes(self):
        return self.primaries + self.backups

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._stack.close()

    def wait_until_whole(self):
        """No server is left alone any more."""
        eventually(lambda: self.proxy.stats()["backends_ejected"] == 0, within=PATIENCE, what="every server is trusted again")


def resident(pid):
    """Bytes of memory that a process has now."""
    return _memory(pid, "VmRSS")


def most_resident(pid):
    """The most that it ever had."""
    return _memory(pid, "VmHWM")


def _memory(pid, name):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {name}")


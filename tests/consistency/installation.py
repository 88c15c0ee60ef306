"""Servers, and gmproxy in front of them, which can be killed and started again at the same address."""

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from faults.stage import OPTIONS
from support.servers import HOST, Memcached, Proxy, free_port, server_options
from support.timing import PATIENCE, eventually

from gmproxy.system import control_socket

#: What `stats` counts while something is unfinished.
UNFINISHED = ("links_lingering", "changes_undecided", "fetches", "journal_keys", "backends_behind")


class Installation:
    """`primaries` and `backups` are the numbers of servers, or lists of servers; `replicas` is the number of replica sets, which have as many servers
    as there are primaries. Use it in a `with`.

    workers      of gmproxy; may be changed before it is started again
    options      of gmproxy, besides its servers
    """

    def __init__(self, folder: Path, primaries=1, backups=1, workers: int = 2, options: Sequence = (), replicas: int = 0) -> None:
        self.workers = workers
        self.options = list(options)
        self._folder = folder
        self._stack = ExitStack()
        self._proxies = []
        self.port = free_port()
        try:
            self.primaries = self._servers(primaries)
            self.backups = self._servers(backups)
            self.replicas = [self._servers(len(self.primaries)) for _ in range(replicas)]
            self.proxy = self._launch()
        except BaseException:
            self._stack.close()
            raise

    def _servers(self, wanted):
        return [self._stack.enter_context(Memcached()) for _ in range(wanted)] if isinstance(wanted, int) else wanted

    def __enter__(self) -> "Installation":
        return self

    def __exit__(self, *failure) -> None:
        try:
            self.kill_all()
        finally:
            self._stack.close()

    @property
    def servers(self) -> list[Memcached]:
        return self.primaries + self.backups + [server for replica in self.replicas for server in replica]

    # -- gmproxy

    def arguments(self) -> list[str]:
        """The command line of gmproxy."""
        where = server_options(self.primaries, self.backups, self.replicas)
        files = ("--control", self._folder / "control", "--pid-file", self._folder / "pid")
        return [*map(str, ("-l", HOST, "-p", self.port, *where, *OPTIONS, *files, "--workers", self.workers, *self.options))]

    def start(self) -> None:
        """Start it again. All its processes must have ended."""
        self.proxy = self._launch()

    def _launch(self):
        proxy = self._stack.enter_context(Proxy(*self.arguments(), port=self.port))
        self._proxies.append(proxy)
        self._group = proxy.pid
        self.master = proxy.pid
        self.wait_until_serving(proxy)
        return proxy

    def wait_until_serving(self, proxy: Proxy | None = None) -> None:
        """Wait until all workers serve."""
        eventually(lambda: (proxy or self.proxy).stats()["threads"] == self.workers, within=2 * PATIENCE, what="all workers serve")

    def order(self, *words: str) -> dict:
        """Send a control command, and return its reply. Raises OSError or gmproxy.errors.GmproxyError if there is none."""
        return control_socket.send_command(str(self._folder / "control"), *words)

    def worker_pids(self) -> list[int]:
        """The processes that serve clients, from the control socket."""
        return self.order("pids")["workers"]

    def processes(self) -> list[int]:
        """All processes of the service that have not ended: those of its process group, also after an upgrade."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat") as status:
                    state, _, group = status.read().rpartition(") ")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self._group and state not in "ZX":
                found.append(int(name))
        return found

    def wait_for_the_end(self) -> None:
        """Wait until no process of the service is left."""
        self.proxy.is_running  # noqa: B018 - reaps the child
        eventually(lambda: not self.processes(), within=3 * PATIENCE, what="all processes of the service have ended")
        if self.proxy.is_running:
            self.proxy.wait(PATIENCE)

    def kill_all(self) -> None:
        """End all its processes with SIGKILL."""
        if self.processes():
            os.killpg(self._group, signal.SIGKILL)
        self.wait_for_the_end()

    # -- quiet

    def proxy_stats(self, name: str) -> int:
        """A number of its `stats`."""
        return self.proxy.stats()[name]

    def check_logs(self) -> None:
        """A traceback in the log of any of its processes fails the test."""
        for proxy in self._proxies:
            proxy.check_log()

    def unfinished(self) -> int:
        """The number of writes, fills and pending invalidations that are not over."""
        stats = self.proxy.stats()
        return sum(stats[name] for name in UNFINISHED)

    def wait_until_restored(self) -> None:
        """Wait until no server is ejected and none has pending invalidations."""

        def restored():
            stats = self.proxy.stats()
            return stats["backends_ejected"] == 0 and stats["backends_behind"] == 0

        eventually(restored, within=2 * PATIENCE, what="every server is restored")

    def wait_until_quiet(self) -> None:
        """No client sends requests: wait until all writes have reached all servers."""
        self.wait_until_restored()
        eventually(lambda: self.unfinished() == 0, within=2 * PATIENCE, what="nothing is unfinished")

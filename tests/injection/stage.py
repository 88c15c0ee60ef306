"""The processes of the scenario: memcached servers and the instrumented proxy in front of them; and the clients that check that it serves."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from support.servers import HOST, Memcached, Proxy, free_port, read_stats
from support.talk import Talk, storage
from support.timing import eventually

from gmproxy.system import control_socket
from injection.clients import HUNG_AFTER, Actor, Bystander
from injection.injector import Injector

#: Counters of `stats` that are 0 when no request is in progress and no server is ejected.
AT_REST = ("changes_undecided", "fetches", "links_lingering", "backends_ejected", "backends_behind", "journal_keys", "bytes_held")

#: Replies that each bystander must receive after a fault, to prove that it is served.
ENOUGH = 3

#: The number of keys that are tried to find some for each server of alpha.
KEYS_TRIED = 90

#: Enables systemd's watchdog messages. No process receives them.
WATCHDOG = {"WATCHDOG_USEC": "200000"}

PASSWORD = "user:secret"
LOGIN = storage(b"set", b"login", b"user secret")

#: Settings of all pools. The timeouts are short to keep the scenario short; a server is ejected at its first failure.
COMMON = {
    "hash": "md5",
    "distribution": "ketama",
    "timeout": 200,
    "connect_timeout": 200,
    "server_failure_limit": 1,
    "server_retry_timeout": 100,
    "hibernate_after": 1,
    "slow_threshold": 1,
}


class Servers:
    """The memcached servers of all stages: `primaries` and `backups` of the pool alpha, the sets of epsilon, and the `others`, of the other pools."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.primaries = [self._start() for _ in range(3)]
        self.backups = [self._start() for _ in range(2)]
        self.others = [self._start() for _ in range(6)]
        self.sets = [self._start() for _ in range(3)]

    def _start(self) -> Memcached:
        return self._stack.enter_context(Memcached())

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()


class Stage:
    """A proxy with five pools, its bystanders, and its operator.

        alpha   three servers with backups and auto_eject_hosts
        beta    a server and a backup with the binary protocol
        gamma   backup_writes sync, a password, at most 8 clients
        delta   backup_writes off: the backup receives writes only while the server is down
        epsilon two replicas, one of them named far; reads are spread

    Use it in a `with`. `options`: further command line options.
    """

    POOLS = ("alpha", "beta", "gamma", "delta", "epsilon")

    def __init__(self, copy: Path, injector: Injector, servers: Servers, folder: Path, *options: str) -> None:
        self.servers = servers
        self.workers = int(options[options.index("--workers") + 1]) if "--workers" in options else 1
        self.injector = injector
        self.folder = folder
        self.ports = {name: free_port() for name in self.POOLS}
        self.admin = free_port()
        self.stats_port = free_port()
        self.control = folder / "control"
        self.file = folder / "pools.yml"
        self.pid_file = folder / "pid"
        (folder / "users").write_text(f"{PASSWORD}\n")
        (folder / "users").chmod(0o600)
        self.configure()
        self.actors: list[Actor] = []
        name = f"bystander{self.admin}"  # the servers may have values of an earlier stage
        self.bystanders = [
            Bystander(f"{name}-{number}", self.connector(pool), self.login(pool))
            for number, pool in enumerate(("alpha", "alpha", "beta", "gamma"))
        ]
        self.arguments = (
            "--pools",
            self.file,
            "--control",
            self.control,
            "--admin",
            f"{HOST}:{self.admin}",
            "--stats-port",
            f"{HOST}:{self.stats_port}",
            "--pid-file",
            self.pid_file,
            "--grace",
            "500",
            "--journal-dir",
            folder / "journal",
            "--watch",
            *options,
        )
        self.launch = lambda: Proxy(
            *self.arguments,
            port=self.ports["alpha"],
            cwd=copy,
            variables={"PYTHONPATH": str(copy), **injector.variables, **WATCHDOG, "NOTIFY_SOCKET": str(folder / "notify")},
        )
        self.proxy: Proxy | None = None
        self._log_seen = 0
        self.descriptors_at_rest = 0

    def __enter__(self) -> "Stage":
        self.proxy = self.launch()
        try:
            # A service exits if a worker is killed before all workers are ready.
            eventually(lambda: self.proxy.log().count(" INFO serving ") == self.workers, what="all workers serve")
            self.keys = self._find_keys()
            for bystander in self.bystanders:
                bystander.begin()
            self.settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def end_bystanders(self) -> None:
        for bystander in self.bystanders:
            bystander.end()

    def __exit__(self, *failure: object) -> None:
        self.end_bystanders()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.proxy.pid, signal.SIGKILL)  # its workers and successors as well
        self.last_log = self.proxy.log()
        self.proxy.__exit__(*failure)

    # -- its configuration and its clients

    def configure(self, **changes: object) -> None:
        """Write the configuration file. `changes` are for the pool delta, which has no bystander: servers that a reload adds again have stale
        values."""
        address = [f"{HOST}:{self.ports[name]}" for name in self.POOLS]
        primaries, backups, others = (
            [f"{server.address}:1" for server in group] for group in (self.servers.primaries, self.servers.backups, self.servers.others)
        )
        pools = {
            "alpha": {
                "listen": address[0],
                "servers": primaries,
                "backups": backups,
                "auto_eject_hosts": True,
                "failover_ttl": 60,
                **COMMON,
            },
            "beta": {"listen": address[1], "servers": others[:1], "backups": others[1:2], "backend_protocol": "binary", **COMMON},
            "gamma": {
                "listen": address[2],
                "servers": others[2:3],
                "backups": others[3:4],
                "backup_writes": "sync",
                "max_connections": 8,
                "auth_file": str(self.folder / "users"),
                **COMMON,
                "server_failure_limit": 3,
            },
            "delta": {
                "listen": address[3],
                "servers": others[4:5],
                "backups": others[5:],
                "backup_writes": "off",
                "preconnect": True,
                **COMMON,
            },
        }
        main, far, near = ([f"{server.address}:1"] for server in self.servers.sets)
        pools["epsilon"] = {"listen": address[4], "servers": main, "replicas": ["far", "near"], "write": "all", "read": "spread", **COMMON}
        pools |= {"far": {"servers": far, **COMMON}, "near": {"servers": near, **COMMON}}
        pools["delta"].update(changes)
        self.file.write_text(yaml.safe_dump(pools, sort_keys=False))

    def _find_keys(self) -> list[list[bytes]]:
        """For each primary of alpha, keys that are placed on it."""
        labels = [server.address for server in self.servers.primaries]
        found: list[list[bytes]] = [[] for _ in labels]
        keys = [f"key{number}" for number in range(KEYS_TRIED)]
        for way in self.order("route", *keys)["pools"]["alpha"]:
            place = next(number for number, label in enumerate(labels) if way["server"].startswith(label))
            found[place].append(way["key"].encode())
        return found

    def connector(self, pool: str) -> Callable[[], Talk]:
        return lambda: Talk(self.ports[pool], timeout=HUNG_AFTER)

    @staticmethod
    def login(pool: str) -> bytes:
        return LOGIN if pool == "gamma" else b""

    # -- for the parts

    def actor(self, pool: str = "alpha", login: bool = True) -> Actor:
        actor = Actor(self.connector(pool), self.login(pool) if login else b"")
        self.actors.append(actor)
        return actor

    def order(self, *words: str) -> dict:
        return control_socket.send_command(str(self.control), *words, timeout=HUNG_AFTER)

    def new_log(self) -> str:
        """The lines logged since the last call."""
        log = self.proxy.log()
        new, self._log_seen = log[self._log_seen :], len(log)
        return new

    def stats(self, pool: str) -> dict:
        with self.connector(pool)() as talk:
            if self.login(pool):
                talk.ask(self.login(pool))
            return read_stats(talk)

    def pids(self) -> list[int]:
        """The process IDs of the service."""
        children = Path(f"/proc/{self.proxy.pid}/task/{self.proxy.pid}/children").read_text().split()
        return [self.proxy.pid, *map(int, children)]

    def descriptors(self) -> int:
        """The number of open file descriptors, without the connections to servers that `stats` reports."""
        links = sum(self.stats(pool)["backend_links"] for pool in self.POOLS)
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids()) - links

    def note_rest(self) -> None:
        """Record the number of open file descriptors: `settle` waits until no more are open."""

        def steady() -> int:
            before = self.descriptors()
            self._wait_for_bystanders()
            return before if before == self.descriptors() else 0

        self.descriptors_at_rest = eventually(steady, what="the number of descriptors stays")

    # -- checks

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Forget earlier troubles of the clients and earlier log lines. At the end, disconnect the actors made in this `with` block."""
        for bystander in self.bystanders:
            bystander.forgive()
        self.actors = []
        self.new_log()
        try:
            yield
        finally:
            for actor in self.actors:
                actor.hang_up()

    def victims(self) -> int:
        """The number of clients whose connection was closed, or that received an internal error."""
        return sum(client.is_victim for client in self.actors + self.bystanders)

    def troubles(self) -> list[str]:
        return [trouble for bystander in self.bystanders for trouble in bystander.trouble]

    def settle(self) -> None:
        """Wait until every client is served, every server of alpha accepts writes, and no request is in progress."""
        self._wait_for_bystanders()
        for keys in self.keys:
            self._eventually_stored(keys[0])
        for pool in self.POOLS:
            eventually(lambda: not self._unrest(pool), within=HUNG_AFTER, what=f"rest in {pool}, where is {self._unrest(pool)}")
        if self.workers > 1:
            eventually(lambda: len(self.order("pids")["workers"]) == self.workers, within=HUNG_AFTER, what="all workers are there")
        if self.descriptors_at_rest:
            eventually(lambda: self.descriptors() <= self.descriptors_at_rest, within=HUNG_AFTER, what="descriptors are closed")

    def _unrest(self, pool: str) -> dict:
        stats = self.stats(pool)
        return {name: stats[name] for name in AT_REST if stats[name]}

    def _eventually_stored(self, key: bytes) -> None:
        with self.connector("alpha")() as talk:
            eventually(lambda: talk.ask(storage(b"set", key, b"settled")) == b"STORED\r\n", within=HUNG_AFTER, what=f"{key} stored")
            talk.expect(b"get %b\r\n" % key, b"VALUE %b 0 7\r\nsettled\r\nEND\r\n" % key)

    def _wait_for_bystanders(self) -> None:
        counts = {bystander: bystander.answered + ENOUGH for bystander in self.bystanders}
        try:
            eventually(
                lambda: self.troubles() or all(bystander.answered >= count for bystander, count in counts.items()),
                within=2 * HUNG_AFTER,
                what="bystanders are served",
            )
        except AssertionError as error:
            error.add_note("\n".join([*map(str, self.bystanders), self.proxy.log()[-3000:]]))
            raise

    def told_of(self, number: int) -> str | None:
        """The `where` of the log line about the exception injected at point `number`; None if there is no such line."""
        for told in self.new_log().split("ERROR internal error where=")[1:]:
            if re.search(rf"injected at point {number}\b", told):
                return told.split()[0]
        return None

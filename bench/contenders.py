"""How memcached and the proxies under comparison are started. All proxies map keys in the same way."""

import os
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import Address, BenchError, Server, free_port

GMPROXY = "gmproxy"  # the contender's name

GMPROXY_ARGUMENTS = "{listen} {server_options} -n 6000 --distribution {distribution} --hash fnv1a_64"

SCRAPE_SECONDS = 1
WATCHER_SECONDS = 10  # a request for metrics or samples without a reply by then fails

NUTCRACKER_POOL = """\
bench:
  listen: {listen}
  hash: fnv1a_64
  distribution: {distribution}
  timeout: 2000
  backlog: 1024
  preconnect: true
  server_connections: 1
  servers:
"""


@dataclass(frozen=True)
class Contender:
    """A proxy and its command line. `command` lists the fields that are filled in, and {arguments}."""

    name: str
    template: str
    arguments: str = GMPROXY_ARGUMENTS
    distribution: str = "modula"

    def with_workers(self, count: int) -> "Contender":
        return self if count == 1 else replace(self, arguments=f"{self.arguments} --workers {count}")

    def with_backups(self) -> "Contender":
        return replace(self, arguments=f"{self.arguments} {{backup_options}}")

    def with_replicas(self) -> "Contender":
        return replace(self, arguments=f"{self.arguments} {{replica_options}}")

    def with_journal(self) -> "Contender":
        return replace(self, arguments=f"{self.arguments} --journal-dir {{directory}}/journal")

    def that_distributes(self, distribution: str) -> "Contender":
        return self if distribution == self.distribution else replace(self, distribution=distribution)

    def command(self, address: Address, servers: list[str], backups: list[str], directory: Path) -> list[str]:
        places = {
            "listen": f"-p 0 -f {address}" if isinstance(address, Path) else f"-l 127.0.0.1 -p {address}",
            "port": 0 if isinstance(address, Path) else address,
            "distribution": self.distribution,
            "servers": ",".join(servers),
            "server_options": " ".join(f"-s {server}" for server in servers),
            "backup_options": " ".join(f"-b {backup}" for backup in backups),
            "replica_options": " ".join(f"--replica {','.join(of_set)}" for of_set in sets_of(backups, len(servers))),
            "directory": directory,
        }
        try:
            arguments = self.arguments.format(**places)
            return shlex.split(self.template.format(arguments=arguments, **places))
        except (KeyError, IndexError, ValueError) as error:
            raise BenchError(f"command of {self.name}: {error!r} in: {self.template}") from None


def sets_of(servers: list[str], count: int) -> list[list[str]]:
    """`servers`, `count` of them in each set."""
    return [servers[begin : begin + count] for begin in range(0, len(servers), count)]


class Nutcracker(Contender):
    """twemproxy as Debian packages it, with its default mbuf size and one connection to each server."""

    def __init__(self, distribution: str = "modula") -> None:
        super().__init__("nutcracker", "nutcracker", distribution=distribution)

    def with_workers(self, count: int) -> Contender:
        return self  # it has one thread

    def with_backups(self) -> Contender:
        return self  # it has none

    def with_replicas(self) -> Contender:
        return self

    def that_distributes(self, distribution: str) -> Contender:
        return Nutcracker(distribution)

    def command(self, address: Address, servers: list[str], backups: list[str], directory: Path) -> list[str]:
        conf = directory / "nutcracker.yml"
        listen = address if isinstance(address, Path) else f"127.0.0.1:{address}"
        conf.write_text(
            NUTCRACKER_POOL.format(listen=listen, distribution=self.distribution) + "".join(f"   - {server}:1\n" for server in servers)
        )
        # its stats port cannot be disabled, and its default pid file and log are those of the system's nutcracker
        own = f"-a 127.0.0.1 -s {free_port()} -p {directory}/nutcracker.pid -o {directory}/nutcracker.out"
        return ["nutcracker", "-c", str(conf), *own.split()]


class Watched(Contender):
    """gmproxy with all monitoring: metrics are scraped each second, and requests are sampled for hot keys without a pause."""

    def __init__(self, gmproxy: Contender) -> None:
        super().__init__(f"{gmproxy.name}-watched", gmproxy.template, gmproxy.arguments)

    def command(self, address: Address, servers: list[str], backups: list[str], directory: Path) -> list[str]:
        command = super().command(address, servers, backups, directory)
        return [*command, "--admin", f"unix:{directory}/admin", "--control", f"{directory}/control"]

    @contextmanager
    def watching(self, directory: Path) -> Iterator[None]:
        over = threading.Event()
        watchers = [
            threading.Thread(target=watch, args=(over, str(directory / path))) for watch, path in ((scrape, "admin"), (sample, "control"))
        ]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            over.set()
            for watcher in watchers:
                watcher.join()


def scrape(over: threading.Event, path: str) -> None:
    while not over.wait(SCRAPE_SECONDS):
        answer = ask(path, b"GET /metrics HTTP/1.0\r\n\r\n")
        if b"gmproxy_backend_requests_total" not in answer:
            raise BenchError(f"no metrics: {answer[:200]!r}")


def sample(over: threading.Event, path: str) -> None:
    while not over.is_set():  # each sample takes five seconds
        answer = ask(path, b'{"command": "hotkeys"}\n')
        if b'"keys"' not in answer:
            raise BenchError(f"no sample: {answer[:200]!r}")


def ask(path: str, question: bytes) -> bytes:
    """All bytes received from the unix socket `path`, or only the first line if no more are expected."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WATCHER_SECONDS)
        sock.connect(path)
        sock.sendall(question)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
            if answer.startswith(b"{") and answer.endswith(b"\n"):
                break
        return answer


def memcached_command(port: int) -> list[str]:
    # enough memory that no item is evicted: a miss then is a fault
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "256", "-t", "2"]
    return [*command, "-u", "nobody"] if os.getuid() == 0 else command


@dataclass(frozen=True)
class Stage:
    """The processes that run at the same time. Only one proxy is under load at a time; the others are idle."""

    backends: list[Server]
    proxies: list[Server]

    def run_on(self, cores: set[int]) -> None:
        for server in (*self.backends, *self.proxies):
            server.run_on(cores)
        os.sched_setaffinity(0, cores)  # the load generator inherits it


@contextmanager
def running(contenders: list[Contender], server_count: int, backup_count: int = 0, unix: bool = False) -> Iterator[Stage]:
    """All contenders, running and serving, with the same `server_count` empty memcached, and `backup_count` more as backups or
    replicas for those that use them.
    `unix`: their clients connect to unix sockets."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="gmproxy-bench-")))

        def start(name: str, command: list[str], address: Address) -> Server:
            server = Server(name, command, address, directory)
            stack.callback(server.stop)
            return server

        stage = Stage([], [])
        for number in range(server_count + backup_count):
            port = free_port()
            stage.backends.append(start(f"memcached-{number}", memcached_command(port), port))
        for backend in stage.backends:
            backend.wait_until_it_answers()
        addresses = [f"127.0.0.1:{backend.address}" for backend in stage.backends]
        servers, backups = addresses[:server_count], addresses[server_count:]
        for contender in contenders:
            address = directory / f"{contender.name}.socket" if unix else free_port()
            proxy = start(contender.name, contender.command(address, servers, backups, directory), address)
            stage.proxies.append(proxy)
            proxy.wait_until_it_answers()
            if isinstance(contender, Watched):
                stack.enter_context(contender.watching(directory))
        try:
            yield stage
        finally:
            for backend in stage.backends:
                backend.end()  # all at once: each needs up to a second

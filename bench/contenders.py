"""How memcached and the proxies under comparison are started. All proxies map keys in the same way."""

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import BenchError, Server, free_port

GMPROXY_ARGUMENTS = "-l 127.0.0.1 -p {port} {server_options} -n 6000 --distribution modula --hash fnv1a_64"

NUTCRACKER_POOL = """\
bench:
  listen: 127.0.0.1:{port}
  hash: fnv1a_64
  distribution: modula
  timeout: 2000
  backlog: 1024
  preconnect: true
  server_connections: 1
  servers:
"""


@dataclass(frozen=True)
class Contender:
    """A proxy and its command line; the places to fill in are those of `command`, and {arguments}."""

    name: str
    template: str
    arguments: str = GMPROXY_ARGUMENTS

    def with_workers(self, count: int) -> "Contender":
        return self if count == 1 else replace(self, arguments=f"{self.arguments} --workers {count}")

    def command(self, port: int, servers: list[str], directory: Path) -> list[str]:
        places = {
            "port": port,
            "servers": ",".join(servers),
            "server_options": " ".join(f"-s {server}" for server in servers),
        }
        try:
            arguments = self.arguments.format(**places)
            return shlex.split(self.template.format(arguments=arguments, **places))
        except (KeyError, IndexError, ValueError) as error:
            raise BenchError(f"command of {self.name}: {error!r} in: {self.template}") from None


class Nutcracker(Contender):
    """twemproxy as Debian packages it, with its default mbuf size and one connection to each server."""

    def __init__(self) -> None:
        super().__init__("nutcracker", "nutcracker")

    def with_workers(self, count: int) -> Contender:
        return self  # it has one thread

    def command(self, port: int, servers: list[str], directory: Path) -> list[str]:
        conf = directory / "nutcracker.yml"
        conf.write_text(NUTCRACKER_POOL.format(port=port) + "".join(f"   - {server}:1\n" for server in servers))
        # Its stats port cannot be switched off, and its default pid file and log are those of the system's nutcracker.
        own = f"-a 127.0.0.1 -s {free_port()} -p {directory}/nutcracker.pid -o {directory}/nutcracker.out"
        return ["nutcracker", "-c", str(conf), *own.split()]


def memcached_command(port: int) -> list[str]:
    # Room enough that nothing is ever evicted: a miss then means a fault.
    command = ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "256", "-t", "2"]
    return [*command, "-u", "nobody"] if os.getuid() == 0 else command


@dataclass(frozen=True)
class Stage:
    """What is up at the same time. Only one proxy is under load at a time; the others sleep."""

    backends: list[Server]
    proxies: list[Server]

    def run_on(self, cores: set[int]) -> None:
        for server in (*self.backends, *self.proxies):
            server.run_on(cores)
        os.sched_setaffinity(0, cores)  # the load generator inherits it


@contextmanager
def running(contenders: list[Contender], server_count: int) -> Iterator[Stage]:
    """All contenders, up and answering, over the same `server_count` empty memcached."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="gmproxy-bench-")))

        def start(name: str, command: list[str], port: int) -> Server:
            server = Server(name, command, port, directory)
            stack.callback(server.stop)
            server.wait_until_it_answers()
            return server

        stage = Stage([], [])
        for number in range(server_count):
            port = free_port()
            stage.backends.append(start(f"memcached-{number}", memcached_command(port), port))
        addresses = [f"127.0.0.1:{backend.port}" for backend in stage.backends]
        for contender in contenders:
            port = free_port()
            stage.proxies.append(start(contender.name, contender.command(port, addresses, directory), port))
        yield stage

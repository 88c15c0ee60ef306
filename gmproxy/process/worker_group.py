"""The workers of a service as seen by its Supervisor: the common interface of Master and SingleProcess."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from gmproxy.config.configuration import Config
from gmproxy.process.service_memory import ServiceMemory
from gmproxy.system.select_loop import Callback, EventLoop

#: Seconds for a successor to become ready; after that it is killed.
UPGRADE_TIMEOUT = 30

#: The result of a command: a JSON object. If the command failed it has "error", a text.
Result = dict[str, Any]

#: {name of a pool: its listen addresses}
Addresses = Mapping[str, list[str]]


class WorkerGroup(ABC):
    """Starts, commands and ends the workers.

    loop     event loop of this process
    shared   what the processes of the service share

    In the master the methods are called in the loop and do not block. In a single process they are called in greenlets, and `call_workers`
    blocks while the command runs. Each `then` is called exactly once, at once or later, in the loop of the master or in a greenlet.
    """

    def __init__(self, loop: EventLoop, shared: ServiceMemory) -> None:
        self.loop = loop
        self.shared = shared

    @abstractmethod
    def run(self, ready: Callable[[], None]) -> None:
        """Serve until `end_all` is called and the workers have ended. `ready` is called once, when all workers accept clients. Blocks. Raises
        StartError if the workers cannot start."""

    @abstractmethod
    def reconfigure(self, configs: Sequence[Config], addresses: Addresses, new: Mapping[str, socket], then: Callable[[], None]) -> None:
        """Serve the pools `configs` at their `addresses`. `new`: {address: listening socket} for the addresses that the workers do not have yet;
        the sockets stay the caller's. `then()` is called when the workers have replied or
        their time is over. Raises ConfigError or StartError if the worker in this process cannot serve them; then `then` is not called."""

    @abstractmethod
    def call_workers(self, command: str, arguments: list[Any], then: Callable[[list[Result]], Any]) -> None:
        """Run a command in all workers; `then` gets the list of their results, without the workers that do not reply in time. Raises
        nothing."""

    @abstractmethod
    def reopen_logs(self, config: Config) -> None:
        """Open the log again, as `config` says, in this process and all workers. Raises StartError if this process cannot open it."""

    @abstractmethod
    def end_all(self, after_next_reply: bool) -> None:
        """Disconnect the clients and end all workers. `after_next_reply`: disconnect each client after its next reply, and at the end of the
        grace period those that have received none."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The pids of the running workers, in the order of their numbers."""

    @abstractmethod
    def count(self) -> int:
        """The configured number of workers, whether or not all of them run now."""

    def call_later(self, seconds: float, callback: Callback) -> None:
        """Call `callback` once after `seconds`: in the loop of the master, or in a greenlet."""
        self.loop.call_later(seconds, callback)

    def wait_for_successor(self, descriptor: int, pid: int, then: Callable[[str | None], Any]) -> None:
        """Read the start report of the successor `pid` from the pipe `descriptor`, and close the pipe. `then` gets the whole report, or None if
        the successor has not reported within UPGRADE_TIMEOUT."""
        chunks: list[bytes] = []
        os.set_blocking(descriptor, False)
        timer = self.loop.call_later(UPGRADE_TIMEOUT, lambda: finish(None))

        def finish(report: str | None) -> None:
            self.loop.remove(descriptor)
            os.close(descriptor)
            self.loop.cancel(timer)
            self.loop.run_task(lambda: then(report))

        def read() -> None:
            chunk = os.read(descriptor, 4096)
            chunks.append(chunk)
            if not chunk:
                finish(b"".join(chunks).decode(errors="replace"))

        self.loop.add_reader(descriptor, read, lambda: finish(""))

"""The worker processes of a service, as its Supervisor directs them: the interface of Master and SingleProcess."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from socket import socket
from typing import Any

from gmproxy.system.select_loop import Callback, EventLoop

#: A successor that does not serve after this many seconds is ended.
UPGRADE_TIMEOUT = 30

#: The result of a command.
Result = dict[str, Any]

#: {name of a pool: its listen addresses}
Addresses = Mapping[str, list[str]]


class WorkerGroup(ABC):
    """
    loop   of this process

    The methods do not wait. A result is handed to `then`, at once or later, from a callback of the loop or a greenlet.
    """

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop

    @abstractmethod
    def run(self, ready: Callable[[], None]) -> None:
        """Serve until the end; `ready` is called once clients are accepted in all workers. Waits. Raises StartError if no worker can start."""

    @abstractmethod
    def reconfigure(self, configs: Sequence[Any], addresses: Addresses, new: Mapping[str, socket], then: Callable[[], None]) -> None:
        """Serve the pools `configs` at their `addresses`; `new`: {address: listening socket} of those that are new. `then()` is called when
        all workers have done it."""

    @abstractmethod
    def call_workers(self, command: str, arguments: list[Any], then: Callable[[list[Result]], Any]) -> None:
        """Run a command in all workers; `then` gets the list of their results. Raises nothing."""

    @abstractmethod
    def reopen_logs(self, config: Any) -> None:
        """Raises StartError if the log of this process cannot be opened."""

    @abstractmethod
    def end_all(self, after_next_reply: bool) -> None:
        """Disconnect the clients and end all workers. `after_next_reply`: each client after its next reply, if that comes within the grace
        period."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Of the workers that run."""

    @abstractmethod
    def count(self) -> int:
        """The number of workers that the service should have."""

    def call_later(self, seconds: float, callback: Callback) -> None:
        """Have `callback` called after `seconds`; in a greenlet, if this process has greenlets."""
        self.loop.call_later(seconds, callback)

    def wait_for_successor(self, descriptor: int, pid: int, then: Callable[[str | None], Any]) -> None:
        """Read the report of the successor `pid` from the pipe `descriptor`, which is closed then. `then` gets it whole, or None if it is not
        there after UPGRADE_TIMEOUT; in a greenlet, if this process has greenlets."""
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

"""Clients that share all their keys. Each has a thread and a connection."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support.timing import PATIENCE, PROGRAM_TIMEOUT, TICK

from consistency.histories import CounterHistory, History
from consistency.results import Results, as_text
from consistency.shared_client import MANY, SharedClient

#: One in how many clients uses the binary protocol.
BINARY_EVERY = 4

#: Operations and their weights.
MIXED = {
    "get": 14, "gets": 8, "multi_get": 10, "gat": 4, "touch": 4,
    "set": 16, "add": 8, "replace": 5, "cas": 10, "append": 8, "delete": 10, "incr": 14, "set_counter": 1,
}  # fmt: skip


class Gate:
    """Clients stop here between two batches while it is held. `closed`: they end."""

    def __init__(self, clients: int) -> None:
        self.closed = False
        self._clients = clients
        self._held = False
        self._waiting = 0
        self._changed = threading.Condition()

    def pass_through(self) -> bool:
        """Called by a client before each batch. Returns False if it must end."""
        with self._changed:
            if self._held and not self.closed:
                self._waiting += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._held or self.closed, PROGRAM_TIMEOUT)
                self._waiting -= 1
            return not self.closed

    def hold(self) -> None:
        with self._changed:
            self._held = True
            assert self._changed.wait_for(lambda: self._waiting == self._clients, 3 * PATIENCE), "clients do not stop"

    def open(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def close_down(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class SharedLoad:
    """`clients` clients of the proxy at `port`, which run until the end of the `with` block. They write the same `keys` and `counters`.

    mix                    {operation: weight}, of MIXED
    rest                   maximum pause after each batch, seconds
    connections_may_end    a connection that ends is no violation: gmproxy is killed
    """

    def __init__(self, port, *, keys=300, counters=20, clients=8, seed="1", mix=None, rest=0.004, connections_may_end=False):
        self.results = Results()
        self.histories = {key: History(key) for key in (b"key-%d" % number for number in range(keys))}
        self.counters = {key: CounterHistory(key) for key in (b"counter-%d" % number for number in range(counters))}
        self._gate = Gate(clients)
        self._port = port
        self._clients = [
            SharedClient(f"client {number}", port, self, random.Random(f"{seed} {number}"), number % BINARY_EVERY == BINARY_EVERY - 1)
            for number in range(clients)
        ]
        self.mix = mix or MIXED
        self.rest = rest
        self.connections_may_end = connections_may_end
        self._threads = ThreadPoolExecutor(max(1, clients))
        self._runs = []
        self._reader = SharedClient("reader", port, self, random.Random(seed), False)

    def __enter__(self) -> "SharedLoad":
        self._runs = [self._threads.submit(client.run, self._gate) for client in self._clients]
        return self

    def __exit__(self, *failure) -> None:
        self._gate.close_down()
        with self._threads:
            for run in self._runs:
                run.result()
        for client in (*self._clients, self._reader):
            client.close()

    def hold(self) -> None:
        """No client sends requests until `go_on`. Returns when all have received their replies."""
        self._gate.hold()

    def go_on(self) -> None:
        self._gate.open()

    def run_for(self, duration: float) -> None:
        """Let the clients run for `duration` seconds. Raises the exception of a client that has one."""
        deadline = time.monotonic() + duration
        while time.monotonic() < deadline:
            self.check_alive()
            time.sleep(min(TICK, max(0.0, deadline - time.monotonic())))

    def check_alive(self) -> None:
        """Raises the exception of a client that has one."""
        for run in self._runs:
            if run.done():
                run.result()

    def history_of(self, key: bytes) -> str:
        """The last operations on `key`, as text."""
        return as_text(self.histories.get(key) or self.counters[key], self.results.events)

    def read_all(self) -> None:
        """Read all keys, and judge the values."""
        keys = [*self.histories, *self.counters]
        for start in range(0, len(keys), max(MANY)):
            self._reader.ask([self._reader.retrieval(keys[start : start + max(MANY)])])
        self._reader.close()  # an idle client would delay the end of a process that another one replaces

"""A worker's part of the service: its number, its share of the limits, and the memory shared with the other workers."""

from collections.abc import Callable
from typing import Any

from gmproxy.process.client_counts import HELD_STEP, ClientCounts
from gmproxy.process.dump_locks import DumpLocks
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.memory import SharedMemory


class WorkerContext:
    """What the code of a worker knows about the whole service.

    number          of this worker, from 0
    workers         number of workers
    started_at      start of the service, monotonic seconds
    client_counts   clients of all workers; None in a single process
    shared          what this worker shares with the others; without it, `workers` is 1 and it shares nothing
    dump_locks      locks for listings of keys
    call_workers    call_workers(command, arguments, then) runs a command in all workers (WorkerProcess.call_workers); None in a single process
    report          report() returns the counters and measurements of this worker (gmproxy.monitoring.report)
    max_clients     maximum number of clients, in all pools of this process, by the open files limit
    clients         number of clients in all pools of this process
    held_bytes      bytes held for clients of this process: incomplete requests, and replies not sent yet
    accepting       False while no client is accepted (drain)
    fills_enabled   False after the operator command `fills off`
    replicas_off    (title of the pool, name) of each replica that was off, by the operator command `replica`, when this worker was started

    The methods do not block: loop callback or greenlet.
    """

    def __init__(
        self,
        number: int = 0,
        workers: int = 1,
        started_at: float = 0.0,
        client_counts: ClientCounts | None = None,
        shared: SharedColumn | None = None,
        dump_locks: DumpLocks | None = None,
    ) -> None:
        self.number = number
        self.workers = workers
        self.started_at = started_at
        self.client_counts = client_counts
        self.shared = shared or SharedColumn(SharedMemory.create())
        self.dump_locks = dump_locks or DumpLocks()
        self.call_workers: Callable[[str, list[Any], Callable[[Any], Any]], Any] | None = None
        self.report: Callable[[], dict[str, Any]] | None = None
        self.max_clients = 0
        self.clients = 0
        self.held_bytes = 0
        self.accepting = True
        self.fills_enabled = True
        self.replicas_off: frozenset[tuple[str, str]] = frozenset()
        self._published_bytes = 0  # `held_bytes` as last written to `client_counts`

    # -- limits of all clients

    def room(self) -> int:
        """The number of further clients that this process has descriptors for; negative after a reload that lowers the limit."""
        return self.max_clients - self.clients

    def others_have_room(self, more: int) -> bool:
        """True if another worker has descriptors for `more` further clients; all workers have the same limit."""
        counts = self.client_counts
        return counts is not None and any(
            counts.clients_of_worker(number) + more <= self.max_clients for number in range(self.workers) if number != self.number
        )

    def add_held_bytes(self, more: int) -> int:
        """Add `more` bytes (negative: subtract) to `held_bytes`. Returns the bytes held by all workers together. Never raises."""
        held = self.held_bytes + more
        total = held
        if self.client_counts is not None:
            if abs(held - self._published_bytes) >= HELD_STEP:
                published = max(held, 0)
                self.client_counts.set_held_bytes(self.number, published)
                self._published_bytes = published
            total += self.client_counts.held_bytes() - self._published_bytes
        self.held_bytes = held
        return total

    # -- limits divided among the workers

    def part_of(self, total: int) -> int:
        """This worker's part of `total`, at least 1. If `total` is below the number of workers, the parts add up to more than it."""
        return max(total // self.workers + (self.number < total % self.workers), 1)

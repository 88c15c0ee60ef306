"""A worker's part of the service: its number, its share of the limits, and what it has in common with the other workers."""

from collections.abc import Callable
from typing import Any

from gmproxy.process.client_counts import HELD_STEP, ClientCounts
from gmproxy.process.dump_locks import DumpLocks
from gmproxy.process.shared_invalidations import ServerInvalidations, SharedInvalidations, server_key


class WorkerContext:
    """
    number          of this worker, from 0
    workers         number of workers
    started_at      start of the service (monotonic seconds)
    client_counts   clients of all workers, or None in a single process
    invalidations   what all workers have to delete on servers, or None in a single process
    dump_locks      which servers list their keys for a worker just now
    call_workers    call_workers(command, arguments, then): run a command in all workers; None in a single process
    report          report(): what this worker has counted and measured (gmproxy.monitoring.report)
    max_clients     clients of all pools for which this process may open descriptors
    clients         of all pools in this process
    held_bytes      bytes that wait for them
    accepting       False once no client is accepted any more

    The methods do not wait: they may be called from a loop callback or a greenlet.
    """

    def __init__(
        self,
        number: int = 0,
        workers: int = 1,
        started_at: float = 0.0,
        client_counts: ClientCounts | None = None,
        invalidations: SharedInvalidations | None = None,
        dump_locks: DumpLocks | None = None,
    ) -> None:
        self.number = number
        self.workers = workers
        self.started_at = started_at
        self.client_counts = client_counts
        self.invalidations = invalidations
        self.dump_locks = dump_locks or DumpLocks()
        self.call_workers: Callable[[str, list[Any], Callable[[Any], Any]], Any] | None = None
        self.report: Callable[[], dict[str, Any]] | None = None
        self.max_clients = 0
        self.clients = 0
        self.held_bytes = 0
        self.accepting = True
        self._published_bytes = 0  # of `held_bytes`, in `client_counts`

    # -- what is common to all clients

    def room(self) -> int:
        """For how many more clients there are descriptors in this process; less than 0 after a reload that leaves fewer."""
        return self.max_clients - self.clients

    def others_have_room(self, more: int) -> bool:
        """True if another worker has descriptors for `more` clients; all workers have the same limit."""
        counts = self.client_counts
        return counts is not None and any(
            counts.clients_of_worker(number) + more <= self.max_clients for number in range(self.workers) if number != self.number
        )

    def add_held_bytes(self, more: int) -> int:
        """`more` bytes wait for clients of this process, or fewer if it is negative. Returns how many wait in all workers. Never raises."""
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

    # -- what is divided among the workers

    def part_of(self, total: int) -> int:
        """This worker's part of `total`, at least 1: so where `total` is below the number of workers, the parts sum up to more."""
        return max(total // self.workers + (self.number < total % self.workers), 1)

    def server_invalidations(self, pool: str, is_backup: bool, label: str) -> ServerInvalidations | None:
        """Those of a server, or None if they are not shared."""
        return None if self.invalidations is None else self.invalidations.of_server(self.number, server_key(pool, is_backup, label))

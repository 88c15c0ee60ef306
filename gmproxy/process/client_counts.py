"""The number of clients that each worker has and has accepted, in memory shared by the workers since the fork.

The table has a row for each pool and a column for each worker. A worker writes only to its own column, so no lock is needed. Only the master
assigns rows; it sends the workers a copy of `rows` when they change.
"""

import mmap
from collections.abc import Sequence

from gmproxy.errors import StartError

#: Maximum number of pools in one service; each has a row.
MAX_POOLS = 4096

CLIENTS_SIZE = 4  # bytes of a cell with a number of clients
BYTES_SIZE = 8  # bytes of a cell with a number of bytes

#: A worker writes its held bytes to the table once they have changed by this many, so the other workers' view of them is off by less than this.
HELD_STEP = 1024 * 1024


class ClientCounts:
    """Clients of each pool in each worker, bytes held for clients of each worker, and connections accepted by each worker.

    workers   number of workers
    rows      {name of a pool: its row}

    A worker is given by its number, from 0. Two workers that read at the same time may both accept the last client: the service may exceed
    `-n` by the number of workers minus one. Loop callback or greenlet; nothing here blocks, and only `assign_rows` raises.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.rows: dict[str, int] = {}
        self._clients = memoryview(mmap.mmap(-1, workers * MAX_POOLS * CLIENTS_SIZE)).cast("I")
        self._held_bytes = memoryview(mmap.mmap(-1, workers * BYTES_SIZE)).cast("Q")
        self._accepted = memoryview(mmap.mmap(-1, workers * BYTES_SIZE)).cast("Q")
        self._paused = memoryview(mmap.mmap(-1, workers * CLIENTS_SIZE)).cast("I")  # sockets at which the worker pauses accepting

    def assign_rows(self, names: Sequence[str]) -> None:
        """Give each pool in `names` a row. The rows of other pools are free again. Master only. Raises StartError if there are more than
        MAX_POOLS."""
        if len(names) > MAX_POOLS:
            raise StartError(f"{len(names)} pools: at most {MAX_POOLS} can be served")
        present = {name: row for name, row in self.rows.items() if name in names}
        free = iter(sorted(set(range(MAX_POOLS)) - set(present.values())))
        self.rows = dict(present)
        for name in names:
            if name not in present:
                self.rows[name] = row = next(free)
                for worker in range(self.workers):
                    self._clients[row * self.workers + worker] = 0

    def set_clients(self, worker: int, name: str, clients: int) -> None:
        """Set the number of clients of the pool `name` in `worker`."""
        row = self.rows.get(name)
        if row is not None:  # else the pool was removed, and its last clients disconnect
            self._clients[row * self.workers + worker] = clients

    def clients_of_pool(self, name: str) -> int:
        """The clients of the pool `name` in all workers; 0 if the pool was removed."""
        row = self.rows.get(name)
        if row is None:
            return 0
        begin = row * self.workers
        total = 0
        for cell in range(begin, begin + self.workers):
            total += self._clients[cell]
        return total

    def clients_of_worker(self, worker: int) -> int:
        """The clients of all pools in `worker`."""
        return sum(self._clients[row * self.workers + worker] for row in self.rows.values())

    def has_most_clients(self, worker: int) -> bool:
        """True if `worker` has more clients than the average of all workers plus one."""
        own = total = 0
        for row in self.rows.values():
            begin = row * self.workers
            own += self._clients[begin + worker]
            for cell in range(begin, begin + self.workers):
                total += self._clients[cell]
        return (own - 1) * self.workers > total

    def add_accepted(self, worker: int, count: int) -> None:
        """`worker` has accepted `count` more clients."""
        self._accepted[worker] += count

    def accepted(self) -> list[int]:
        """The clients that each worker has accepted since the start of the service; of a worker that was replaced, with its predecessors'."""
        return list(self._accepted)

    def pause_socket(self, worker: int) -> None:
        """`worker` pauses accepting at one of its listening sockets."""
        self._paused[worker] += 1

    def resume_socket(self, worker: int) -> None:
        """`worker` accepts at that socket again."""
        self._paused[worker] -= 1

    def others_are_paused(self, worker: int) -> bool:
        """True if each of the other workers pauses accepting at one or more of its sockets."""
        return all(paused or number == worker for number, paused in enumerate(self._paused))

    def set_held_bytes(self, worker: int, count: int) -> None:
        """Set the number of bytes held for clients of `worker`."""
        self._held_bytes[worker] = count

    def held_bytes(self) -> int:
        """The bytes held for clients of all workers."""
        return sum(self._held_bytes)

    def clear_worker(self, worker: int) -> None:
        """`worker` has died: it no longer has clients."""
        for row in self.rows.values():
            self._clients[row * self.workers + worker] = 0
        self._held_bytes[worker] = 0
        self._paused[worker] = 0

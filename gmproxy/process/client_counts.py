"""How many clients each worker has and has accepted, in memory that the workers share from the fork on.

The table has a row for each pool, and in a row a column for each worker. A worker writes only in its own column, so no lock is needed. Only
the master assigns rows; workers get a copy of `rows` when that changes.
"""

import mmap
from collections.abc import Sequence

from gmproxy.errors import StartError

#: Pools in one service; each has a row.
MAX_POOLS = 4096

CLIENTS_SIZE = 4  # bytes of a number of clients
BYTES_SIZE = 8  # bytes of a number of bytes

#: A worker writes its held bytes to the table when they have changed by this much: what the other workers know is at most so much too low.
HELD_STEP = 1024 * 1024


class ClientCounts:
    """The number of clients of each pool in each worker, the bytes held for them, and how many the worker has accepted.

    workers   number of workers
    rows      {name of a pool: its row}

    Two workers that read at the same time may both admit the last client: the service may exceed its limit by the number of workers, less
    one. The methods do not wait; but for `assign_rows` they raise nothing.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.rows: dict[str, int] = {}
        self._clients = memoryview(mmap.mmap(-1, workers * MAX_POOLS * CLIENTS_SIZE)).cast("I")
        self._held_bytes = memoryview(mmap.mmap(-1, workers * BYTES_SIZE)).cast("Q")
        self._accepted = memoryview(mmap.mmap(-1, workers * BYTES_SIZE)).cast("Q")
        self._away = memoryview(mmap.mmap(-1, workers * CLIENTS_SIZE)).cast("I")  # sockets at which it does not accept for a moment

    def assign_rows(self, names: Sequence[str]) -> None:
        """Give each pool of `names` a row, and reuse the rows of pools that are not among them. For the master only.

        Raises StartError if there are too many.
        """
        if len(names) > MAX_POOLS:
            raise StartError(f"{len(names)} pools: at most {MAX_POOLS} can be served")
        kept = {name: row for name, row in self.rows.items() if name in names}
        free = iter(sorted(set(range(MAX_POOLS)) - set(kept.values())))
        self.rows = dict(kept)
        for name in names:
            if name not in kept:
                self.rows[name] = row = next(free)
                for worker in range(self.workers):
                    self._clients[row * self.workers + worker] = 0

    def set_clients(self, worker: int, name: str, clients: int) -> None:
        """The number of clients of the pool `name` in `worker`."""
        row = self.rows.get(name)
        if row is not None:  # else the pool was removed and its last clients leave
            self._clients[row * self.workers + worker] = clients

    def clients_of_pool(self, name: str) -> int:
        """In all workers; 0 if the pool was removed."""
        row = self.rows.get(name)
        if row is None:
            return 0
        begin = row * self.workers
        total = 0
        for cell in range(begin, begin + self.workers):
            total += self._clients[cell]
        return total

    def clients_of_worker(self, worker: int) -> int:
        """Of all pools."""
        return sum(self._clients[row * self.workers + worker] for row in self.rows.values())

    def has_most_clients(self, worker: int) -> bool:
        """True if `worker` has more clients than the average, by more than one."""
        own = total = 0
        for row in self.rows.values():
            begin = row * self.workers
            own += self._clients[begin + worker]
            for cell in range(begin, begin + self.workers):
                total += self._clients[cell]
        return (own - 1) * self.workers > total

    def add_accepted(self, worker: int, count: int) -> None:
        """`worker` has accepted so many clients more."""
        self._accepted[worker] += count

    def accepted(self) -> list[int]:
        """By each worker, since the start."""
        return list(self._accepted)

    def pause_socket(self, worker: int) -> None:
        """`worker` accepts no connections at one of its sockets for a moment."""
        self._away[worker] += 1

    def resume_socket(self, worker: int) -> None:
        """It does so again."""
        self._away[worker] -= 1

    def others_are_away(self, worker: int) -> bool:
        """True if each other worker accepts no connections at one of its sockets, or more."""
        return all(paused or number == worker for number, paused in enumerate(self._away))

    def set_held_bytes(self, worker: int, count: int) -> None:
        """The bytes that wait for clients of `worker`."""
        self._held_bytes[worker] = count

    def held_bytes(self) -> int:
        """Bytes that wait for clients of all workers."""
        return sum(self._held_bytes)

    def clear_worker(self, worker: int) -> None:
        """`worker` has died."""
        for row in self.rows.values():
            self._clients[row * self.workers + worker] = 0
        self._held_bytes[worker] = 0
        self._away[worker] = 0

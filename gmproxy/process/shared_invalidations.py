"""Which keys the workers of a service still have to delete on servers, in memory that they share from the fork on.

Each table has a row for each server, and in a row a column for each worker. A worker writes only in its own column, so no lock is
needed. Only the master assigns rows; workers get a copy of `rows` when that changes.
"""

import mmap
from collections.abc import Collection, Iterable
from typing import Any

from gmproxy.backend.key_set import PARTS, part_of

#: Servers, in all pools and since the start, whose invalidations the workers share.
MAX_SERVERS = 4096

#: Which keys a worker still has to delete on a server (ServerInvalidations): none, those in certain parts, any key.
NOTHING, SOME, EVERYTHING = range(3)

_NO_PARTS = bytes(PARTS)


class SharedInvalidations:
    """Which keys the workers still have to delete on servers that missed their changes.

    rows   {server_key: row of the server}; a row is never reused
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.rows: dict[str, int] = {}
        self._states = memoryview(mmap.mmap(-1, workers * MAX_SERVERS))
        self._parts = memoryview(mmap.mmap(-1, workers * MAX_SERVERS * PARTS))

    def assign_rows(self, configs: Iterable[Any]) -> None:
        """Give each server of `configs` a row, as far as there are rows. For the master only."""
        for config in configs:
            for is_backup, servers in (False, config.server), (True, config.backup):
                for server in servers:
                    if len(self.rows) < MAX_SERVERS:
                        self.rows.setdefault(server_key(config.name, is_backup, server.label), len(self.rows))

    def of_server(self, worker: int, key: str) -> "ServerInvalidations | None":
        """Those of the server with the server_key `key`, for use in `worker`. None if the server has no row."""
        row = self.rows.get(key)
        if row is None:
            return None
        begin, end = row * self.workers, (row + 1) * self.workers
        parts = [self._parts[cell * PARTS : (cell + 1) * PARTS] for cell in range(begin, end)]
        return ServerInvalidations(worker, self._states[begin:end], parts)

    def clear_worker(self, worker: int) -> None:
        """`worker` has died, and its pending invalidations with it."""
        for row in self.rows.values():
            self._states[row * self.workers + worker] = NOTHING


def server_key(pool: str, is_backup: bool, label: str) -> str:
    """A server in SharedInvalidations: what it missed in one pool and role is independent of another."""
    return f"{pool} {'backup' if is_backup else 'primary'} {label}"


class ServerInvalidations:
    """What the workers have still to delete on one server. A worker serves no key from there that another one has to delete.

    Each worker publishes in which parts (backend/key_set.py) its keys lie. Another key may be in the same part: then it is taken for old
    without need, which is rare while there are few keys.

    worker   number of this worker
    states   of each worker: NOTHING, SOME or EVERYTHING

    Nothing here waits or raises: may be called from a loop callback or a greenlet.
    """

    def __init__(self, worker: int, states: memoryview, parts: list[memoryview]) -> None:
        self.worker = worker
        self.states = states
        self._parts = parts  # of each worker, one byte per part: 1 if there are keys in it; valid while its state is SOME
        self._own_parts = parts[worker]

    def add_part(self, part: int) -> None:
        """This worker has a key to delete in `part`."""
        if self.states[self.worker] == NOTHING:
            self.replace_parts((part,))
        else:
            self._own_parts[part] = 1

    def add_everything(self) -> None:
        """This worker has to flush the server."""
        self.states[self.worker] = EVERYTHING

    def replace_parts(self, parts: Collection[int]) -> None:
        """This worker has keys to delete in `parts` and nowhere else."""
        self._own_parts[:] = _NO_PARTS
        for part in parts:
            self._own_parts[part] = 1
        self.states[self.worker] = SOME if parts else NOTHING

    def remove_parts(self, parts: Iterable[int]) -> None:
        """This worker has no more keys to delete in `parts`."""
        for part in parts:
            self._own_parts[part] = 0

    def others_have(self, key: bytes) -> bool:
        """True if another worker may have to delete `key`."""
        part = part_of(key)
        for worker, state in enumerate(self.states):
            if worker != self.worker and (state == EVERYTHING or state == SOME and self._parts[worker][part]):
                return True
        return False

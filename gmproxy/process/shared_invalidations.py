"""The pending invalidations of all workers: keys to delete on servers that missed writes, in memory shared by the workers since the fork.

Each table has a row for each server and a column for each worker. A worker writes only to its own column, so no lock is needed. Only the
master assigns rows; it sends the workers a copy of `rows` when they change.
"""

import mmap
from collections.abc import Collection, Iterable
from typing import Any

from gmproxy.backend.key_set import PARTS, part_of

#: Maximum number of servers with a row, in all pools, since the start of the service. Invalidations of further servers are not shared.
MAX_SERVERS = 4096

#: States of a worker's pending invalidations on one server: it has none, it has some in known parts of all keys, any key may be one.
NOTHING, SOME, EVERYTHING = range(3)

_NO_PARTS = bytes(PARTS)


class SharedInvalidations:
    """The tables with the pending invalidations of all servers and workers.

    rows   {server_key(): row of the server}; a row is never reused
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.rows: dict[str, int] = {}
        self._states = memoryview(mmap.mmap(-1, workers * MAX_SERVERS))
        self._parts = memoryview(mmap.mmap(-1, workers * MAX_SERVERS * PARTS))

    def assign_rows(self, configs: Iterable[Any]) -> None:
        """Give each server of `configs` a row, as long as there are free rows. Master only."""
        for config in configs:
            for is_backup, servers in (False, config.server), (True, config.backup):
                for server in servers:
                    if len(self.rows) < MAX_SERVERS:
                        self.rows.setdefault(server_key(config.name, is_backup, server.label), len(self.rows))

    def of_server(self, worker: int, key: str) -> "ServerInvalidations | None":
        """The pending invalidations on the server with the server_key `key`, for use in `worker`; None if the server has no row."""
        row = self.rows.get(key)
        if row is None:
            return None
        begin, end = row * self.workers, (row + 1) * self.workers
        parts = [self._parts[cell * PARTS : (cell + 1) * PARTS] for cell in range(begin, end)]
        return ServerInvalidations(worker, self._states[begin:end], parts)

    def clear_worker(self, worker: int) -> None:
        """`worker` has died: its pending invalidations are lost."""
        for row in self.rows.values():
            self._states[row * self.workers + worker] = NOTHING


def server_key(pool: str, is_backup: bool, label: str) -> str:
    """The name of a server in SharedInvalidations. The same server in another pool or role has another name and its own invalidations."""
    return f"{pool} {'backup' if is_backup else 'primary'} {label}"


class ServerInvalidations:
    """The pending invalidations of all workers on one server. A worker reads no key from the server that another worker has to delete.

    Each worker publishes the parts (backend/key_set.py) that contain its keys. A key that only shares a part with them is taken for stale
    without need, which is rare while there are few keys.

    worker   number of this worker
    states   NOTHING, SOME or EVERYTHING, for each worker

    Loop callback or greenlet. Nothing here blocks or raises.
    """

    def __init__(self, worker: int, states: memoryview, parts: list[memoryview]) -> None:
        self.worker = worker
        self.states = states
        self._parts = parts  # for each worker, a byte for each part: 1 if it contains keys; valid while the state is SOME
        self._own_parts = parts[worker]

    def add_part(self, part: int) -> None:
        """This worker has a key to delete in `part`."""
        if self.states[self.worker] == NOTHING:
            self.replace_parts((part,))
        else:
            self._own_parts[part] = 1

    def add_everything(self) -> None:
        """This worker has to flush the server: any key may be stale."""
        self.states[self.worker] = EVERYTHING

    def replace_parts(self, parts: Collection[int]) -> None:
        """This worker has keys to delete in `parts` and in no others."""
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

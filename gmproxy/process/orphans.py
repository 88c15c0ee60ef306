"""What processes that have ended have left in the shared memory and in the journal: another process takes it over.

A worker that dies, that is taken away, or that belonged to the process before an upgrade leaves an orphaned column; a service that was ended or
killed leaves the files of its journal. All of these are adopted in the same way: the keys become pending invalidations of the adopting worker, and
only then is the column freed. Until then its marks and notes hold for all workers, as those of a living one.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.errors import StartError
from gmproxy.pool import Pool
from gmproxy.shared.column import SharedColumn
from gmproxy.shared.invalidation_marks import NOTHING, STAND_IN, server_name
from gmproxy.shared.keys_in_flight import has_overflowed, keys_left, tag_of
from gmproxy.shared.memory import SharedMemory

#: Keys that are taken over before clients have their turn.
AT_ONCE = 1000

log = logging.getLogger("gmproxy")


class Orphans:
    """Adopts for one worker, whose column is `column`. `adopt_all`: greenlet, one at a time."""

    def __init__(self, column: SharedColumn) -> None:
        self._column = column
        self._memory: SharedMemory = column.memory

    def adopt_all(self, pools: Collection[Pool]) -> None:
        """Take over what the processes that have ended have left for `pools`. Blocks for the disk, and switches to other greenlets."""
        try:
            orphans = self._memory.take_orphans()
        except StartError as error:
            log.warning("orphans not adopted reason=%s", error)
            return
        for number in orphans:
            try:
                self._adopt(number, pools)
            except Exception:  # at the next call again
                internal_errors.record("orphans.adopt", f"column={number}")
                self._memory.leave(number)

    def _adopt(self, number: int, pools: Collection[Pool]) -> None:
        left = self._column.left_by(number)
        count = 0
        for pool in pools:
            for backend, keys in self._left_for(pool, number, left):
                count += _inherit(backend, keys)
            count += self._adopt_keys_in_flight(pool, left.keys_in_flight)
        if self._column.journal is not None:
            self._column.journal.write()  # before the other one is removed
        self._column.forget(number)
        log.info("orphan adopted column=%d keys=%d", number, count)

    def _left_for(self, pool: Pool, number: int, left: Any) -> Iterator[tuple[Backend, Iterable[bytes] | None]]:
        """(server, keys that may be stale there; None: all). Every server of a pool with backups, or with auto_eject_hosts, is in it: it may have
        received writes that it has not read yet."""
        for backend in pool.backends:
            for name in server_name(pool.config.name, backend.role, backend.label), server_name(pool.config.name, STAND_IN, backend.label):
                keys: Iterable[bytes] | None = ()
                if left.pending is not None:
                    every = left.pending.damaged and pool.has_roles() or name.encode() in left.pending.everything
                    keys = None if every else left.pending.keys.get(name.encode(), ())
                elif pool.has_roles() and self._memory.state_of(name, number) != NOTHING:
                    keys = None  # which keys, only the process that has ended knew
                if keys is None or keys or pool.has_roles():
                    yield backend, keys

    @staticmethod
    def _adopt_keys_in_flight(pool: Pool, memories: Sequence[memoryview]) -> int:
        """It is unknown which servers have made the changes of these keys."""
        count = 0
        tag = tag_of(pool.config.name)
        for memory in memories:
            if has_overflowed(memory) and pool.has_roles():
                for backend in pool.backends:
                    backend.inherit(None)
            for of_pool, key in keys_left(memory):
                if of_pool == tag:
                    count += 1
                    for backend in pool.router.servers_of(key):
                        backend.inherit([key])
        return count


def _inherit(backend: Backend, keys: Iterable[bytes] | None) -> int:
    """Returns the number of keys."""
    if keys is None:
        backend.inherit(None)
        return 0
    count = 0
    part: list[bytes] = []
    for key in keys:
        part.append(key)
        if len(part) == AT_ONCE:
            backend.inherit(part)
            count += len(part)
            part = []
            gevent.sleep(0)
    backend.inherit(part)
    return count + len(part)

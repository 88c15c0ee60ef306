"""Compares the items of the main set with those of each further set, for the operator command `verify`, and deletes on the copy what differs.

The keys are from listings of all servers (lru_crawler metadump). A key that both servers have with different values is read again twice, a moment
later: only if both values are unchanged, no write was in progress, and the servers differ. Then the key becomes a pending invalidation of the
server with the copy: it is not read there before it was deleted there.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.item_reader import Item, ItemReader
from gmproxy.errors import EJECTED, BackendError
from gmproxy.monitoring.interfaces import MonitoredPool, Response
from gmproxy.monitoring.listed_keys import NotListed, all_keys, sample_of
from gmproxy.shared.invalidation_marks import BACKUP

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend
    from gmproxy.routing.sets import ServerSet

#: Keys that are read at once from each of two servers, and seconds until the next: so that clients hardly notice.
KEYS_AT_ONCE = 20
PAUSE = 0.001

#: Seconds until keys that differ are read again, how often that is done, and the number of keys for which it is done together.
RECHECK_PAUSE = 0.3
RECHECKS = 2
RECHECKED_AT_ONCE = 1000

#: Seconds within which the keys that differ must be deleted on the server with the copy.
REPAIR_TIMEOUT = 5.0
REPAIR_CHECK_INTERVAL = 0.02

#: Maximum number of keys in the result of each pool.
KEYS_REPORTED = 20

#: What is counted for each set and pool. `compared`: keys found on both servers; `only_on_backup`: on the server with the copy.
COUNTS = ("compared", "equal", "different", "repaired", "changed", "only_on_primary", "only_on_backup", "pending")


def check_pools(pools: Iterable[MonitoredPool], is_named: bool) -> list[MonitoredPool]:
    """Those of `pools` that can be compared. `is_named`: an operator named the pool. Raises LookupError if there is none."""
    can: list[MonitoredPool] = []
    why = "no pool has backups or replicas"
    for pool in pools:
        options = pool.router.options
        if len(pool.router.sets) == 1:
            why = f"pool {pool.title} has no backups or replicas" if is_named else why
        elif options.backup_writes == "off":
            why = f"the backups of pool {pool.title} receive no copies (backup_writes = off)"
        elif options.backend_protocol == "binary":
            why = f"the servers of pool {pool.title} cannot list their keys (backend_protocol = binary)"
        else:
            can.append(pool)
    if not can:
        raise LookupError(why)
    return can


class Verification:
    """One comparison of `pools`.

    sample   maximum number of keys from each server; 0: all
    repairs  delete keys that differ on the server with the copy
    seconds  time limit
    """

    def __init__(self, pools: Sequence[MonitoredPool], sample: int, repairs: bool, seconds: float) -> None:
        self._comparisons = [PoolComparison(pool, sample, repairs) for pool in pools]
        self._seconds = seconds
        self._is_complete = False
        self._greenlet = gevent.spawn(self._compare_pools)

    def is_running(self) -> bool:
        """Loop callback or greenlet."""
        return not self._greenlet.ready()

    def result(self) -> Response:
        """{"complete": whether the time sufficed, "pools": {title: counts, and what was not compared}}. Loop callback or greenlet."""
        return {"complete": self._is_complete, "pools": {comparison.title: comparison.result() for comparison in self._comparisons}}

    def _compare_pools(self) -> None:
        try:
            with gevent.Timeout(self._seconds, False):
                for comparison in self._comparisons:
                    comparison.compare()
                self._is_complete = True
            for comparison in self._comparisons:
                comparison.log_result(self._is_complete)
        except Exception:
            internal_errors.record("verification")


class PoolComparison:
    """Compares the main set of one pool with each further set that is not switched off. `compare`: greenlet only, blocks until it is done."""

    def __init__(self, pool: MonitoredPool, sample: int, repairs: bool) -> None:
        self.title = pool.title
        self._pool = pool
        self._sets = [SetComparison(pool, one, sample, repairs) for one in pool.router.sets[1:] if one.enabled]
        self._off = [backend for one in pool.router.sets[1:] if not one.enabled for backend in one.backends]

    def result(self) -> dict[str, Any]:
        """The counts of all sets added; `sets` has those of each."""
        results = [one.result() for one in self._sets]
        skipped = {(each["server"], each["reason"]): each for result in results for each in result["skipped"]}
        return {
            **{name: sum(result[name] for result in results) for name in COUNTS},
            "keys": [key for result in results for key in result["keys"]][:KEYS_REPORTED],
            "skipped": [*skipped.values(), *({"server": backend.label, "reason": "switched off"} for backend in self._off)],
            "sets": [{"set": result["set"], "role": result["role"], **{name: result[name] for name in COUNTS}} for result in results],
        }

    def log_result(self, is_complete: bool) -> None:
        for one in self._sets:
            one.log_result(is_complete)

    def compare(self) -> None:
        for one in self._sets:
            one.compare()


class SetComparison:
    """Compares the main set of a pool with the set `copy`. `compare`: greenlet only, blocks until it is done."""

    def __init__(self, pool: MonitoredPool, copy: "ServerSet", sample: int, repairs: bool) -> None:
        self._copy = copy
        self._router: Any = pool.router
        self._listings = pool.context.key_listings
        self._sample = sample
        self._repairs = repairs
        self._counts = dict.fromkeys(COUNTS, 0)
        self._keys: list[dict[str, str]] = []
        self._skipped: dict[Any, str] = {}  # Backend -> why it is not read
        self._readers: dict[Any, ItemReader] = {}
        self._open = ExitStack()
        self._sampled: dict[Any, set[bytes] | None] = {}  # primary -> keys that were taken from its listing; None: all
        self._differing: dict[bytes, tuple[Item, Item]] = {}  # to be read again

    def result(self) -> dict[str, Any]:
        skipped = [{"server": backend.label, "reason": reason} for backend, reason in self._skipped.items()]
        return self._counts | {"set": self._copy.name, "role": self._copy.backends[0].role, "keys": self._keys, "skipped": skipped}

    def log_result(self, is_complete: bool) -> None:
        log: Any = self._router.backends[0].log
        counts = " ".join(
            f"{name}={self._counts[name]}" for name in ("compared", "different", "repaired", "only_on_primary", "only_on_backup")
        )
        level = logging.WARNING if self._counts["different"] else logging.INFO
        of_set = "" if self._copy.backends[0].role == BACKUP else f" set={self._copy.name}"
        log.log(level, "primary and backup compared %s complete=%s%s", counts, "yes" if is_complete and not self._skipped else "no", of_set)

    def compare(self) -> None:
        with self._open:
            for primary in list(self._router.backends):
                for keys in self._keys_of(primary, self._router.primary_of):
                    self._compare(keys)
                    gevent.sleep(PAUSE)
            for backup in self._copy.backends:
                for keys in self._keys_of(backup, self._copy.server_of):
                    self._compare_rest(keys)
                    gevent.sleep(PAUSE)
            self._recheck()

    # -- keys

    def _keys_of(self, backend: "Backend", owner_of: Any) -> Iterator[list[bytes]]:
        """Keys of the listing of `backend` for which owner_of(key) is that server, KEYS_AT_ONCE at a time."""
        if backend.health.ejected:
            self._skip(backend, EJECTED)
        if backend in self._skipped:
            return
        batch: list[bytes] = []
        try:
            for key in self._listed_keys(backend):
                if owner_of(key) is backend and self._router.primary_of(key).label != self._copy.server_of(key).label:
                    batch.append(key)
                if len(batch) >= KEYS_AT_ONCE:
                    yield batch
                    batch = []
        except NotListed as error:
            self._skip(backend, str(error))
        if batch:
            yield batch

    def _listed_keys(self, backend: "Backend") -> Iterator[bytes]:
        if self._sample:
            sample = sample_of(self._listings, backend, self._sample)
            self._sampled[backend] = None if sample.is_complete() else set(sample.keys())
            yield from sample.keys()
        else:
            yield from all_keys(self._listings, backend)
            self._sampled[backend] = None

    def _skip(self, backend: "Backend", reason: str) -> None:
        self._skipped[backend] = reason

    # -- comparing

    def _compare(self, keys: Iterable[bytes]) -> None:
        counts = self._counts
        for key, on_primary, on_backup in self._read_both(keys):
            if on_primary is None or on_backup is None:
                counts["only_on_primary"] += on_primary is not None
                counts["only_on_backup"] += on_backup is not None
            elif on_primary == on_backup:
                self._count_compared("equal")
            else:
                self._differing[key] = on_primary, on_backup
        if len(self._differing) >= RECHECKED_AT_ONCE:
            self._recheck()

    def _compare_rest(self, keys: Iterable[bytes]) -> None:
        """Compare those of `keys`, from the listing of a server with copies, that were not compared when the listing of their primary was read."""
        others: list[bytes] = []
        not_on_primary: dict[Any, list[bytes]] = {}  # {primary: keys that only the copy may have}
        for key in keys:
            primary = self._router.primary_of(key)
            taken = self._sampled.get(primary, ())
            if taken is None:
                not_on_primary.setdefault(primary, []).append(key)
            elif key not in taken:
                others.append(key)
        self._compare(others)
        for primary, few in not_on_primary.items():
            found = self._read(primary, few)
            if found is not None:
                self._compare([key for key in few if key not in found])

    def _count_compared(self, outcome: str) -> None:
        self._counts["compared"] += 1
        self._counts[outcome] += 1
        self._router.counters.verify_compared += 1
        if outcome == "different":
            self._router.counters.verify_different += 1

    def _read_both(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Item | None, Item | None]]:
        """(key, item of its primary, item of its server with the copy) for each of `keys` that can be read on both servers."""
        pairs: dict[tuple[Any, Any], list[bytes]] = {}
        for key in keys:
            primary, backup = self._router.primary_of(key), self._copy.server_of(key)
            if primary.may_be_stale(key) or backup.may_be_stale(key):
                self._counts["pending"] += 1
            else:
                pairs.setdefault((primary, backup), []).append(key)
        for (primary, backup), shared in pairs.items():
            on_primary = self._read(primary, shared)
            on_backup = self._read(backup, shared)
            if on_primary is not None and on_backup is not None:
                yield from ((key, on_primary.get(key), on_backup.get(key)) for key in shared)

    def _read(self, backend: "Backend", keys: Sequence[bytes]) -> dict[bytes, Item] | None:
        """The items of `backend`; None if it cannot be read: then it is skipped from now on."""
        if backend.health.ejected:
            self._skip(backend, EJECTED)
        if backend in self._skipped:
            return None
        try:
            if backend not in self._readers:
                self._readers[backend] = self._open.enter_context(ItemReader(backend.server, backend.options))
            return self._readers[backend].read_items(keys)
        except BackendError as error:
            self._skip(backend, str(error))
            return None

    def _recheck(self) -> None:
        """Read again the keys that differed, and repair those that still differ."""
        differing, self._differing = self._differing, {}
        for _ in range(RECHECKS if differing else 0):
            gevent.sleep(RECHECK_PAUSE)
            still: dict[bytes, tuple[Item, Item]] = {}
            for keys in _batches(list(differing)):
                for key, on_primary, on_backup in self._read_both(keys):
                    if on_primary is not None and on_primary == on_backup:
                        self._count_compared("equal")
                    elif (on_primary, on_backup) == differing[key]:
                        still[key] = differing[key]
                    else:
                        self._count_compared("changed")
                gevent.sleep(PAUSE)
            differing = still
        for key in differing:
            self._count_compared("different")
            if len(self._keys) < KEYS_REPORTED:
                primary, backup = self._router.primary_of(key), self._copy.server_of(key)
                self._keys.append({"key": os.fsdecode(key), "primary": primary.label, "backup": backup.label})
        if self._repairs and differing:
            self._repair(list(differing))

    def _repair(self, keys: Sequence[bytes]) -> None:
        """Delete `keys` on their servers with copies, by the rule for writes that a server missed."""
        backups = [self._copy.server_of(key) for key in keys]
        for key, backup in zip(keys, backups):
            backup.missed_key(key)
        left = list(zip(keys, backups))
        with gevent.Timeout(REPAIR_TIMEOUT, False):
            while left := [(key, backup) for key, backup in left if backup.may_be_stale(key)]:
                gevent.sleep(REPAIR_CHECK_INTERVAL)
        self._counts["repaired"] += len(keys) - len(left)


def _batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE))

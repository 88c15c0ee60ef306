"""Compares the items of primaries and backups, for the operator command `verify`, and deletes on the backup what differs.

The keys are from listings of all servers (lru_crawler metadump). A key that both servers have with different values is read again twice, a moment
later: only if both values are unchanged, no write was in progress, and the servers differ. Then the key becomes a pending invalidation of the
backup: it is not read there before it was deleted there.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import gevent

from gmproxy import internal_errors
from gmproxy.backend.dump_reader import Items
from gmproxy.backend.item_reader import Item, ItemReader
from gmproxy.backend.key_sample import KeySample, key_of
from gmproxy.errors import EJECTED, BackendError
from gmproxy.monitoring.interfaces import MonitoredPool, Response
from gmproxy.protocol.key_dump import KeyDump
from gmproxy.system.spill import Spill

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend

#: Keys that are read at once from each of two servers, and seconds until the next: so that clients hardly notice.
KEYS_AT_ONCE = 20
PAUSE = 0.001

#: Seconds until keys that differ are read again, how often that is done, and the number of keys for which it is done together.
RECHECK_PAUSE = 0.3
RECHECKS = 2
RECHECKED_AT_ONCE = 1000

#: Seconds within which the keys that differ must be deleted on the backup.
REPAIR_TIMEOUT = 5.0
REPAIR_CHECK_INTERVAL = 0.02

#: Maximum bytes of the listing of one server if all keys are compared, and bytes of it that are parsed at once.
MAX_LISTING = 1024 * 1024 * 1024
LISTING_STEP = 16 * 1024

#: Maximum number of keys in the result of each pool.
KEYS_REPORTED = 20

#: What the pools count. `compared`: keys found on both servers.
COUNTS = ("compared", "equal", "different", "repaired", "changed", "only_on_primary", "only_on_backup", "pending")

METADUMP = KeyDump(b"metadump", [b"all"], 1)
METADUMP_LINE = b"lru_crawler metadump all\r\n"


def check_pools(pools: Iterable[MonitoredPool], is_named: bool) -> list[MonitoredPool]:
    """Those of `pools` that can be compared. `is_named`: an operator named the pool. Raises LookupError if there is none."""
    can: list[MonitoredPool] = []
    why = "no pool has backups"
    for pool in pools:
        options = pool.router.options
        if not pool.router.backups:
            why = f"pool {pool.title} has no backups" if is_named else why
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
    repairs  delete keys that differ on the backup
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
    """Compares the servers of one pool. `run`: greenlet only, blocks until it is done."""

    def __init__(self, pool: MonitoredPool, sample: int, repairs: bool) -> None:
        self.title = pool.title
        self._pool = pool
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
        return self._counts | {"keys": self._keys, "skipped": skipped}

    def log_result(self, is_complete: bool) -> None:
        log: Any = self._router.backends[0].log
        counts = " ".join(
            f"{name}={self._counts[name]}" for name in ("compared", "different", "repaired", "only_on_primary", "only_on_backup")
        )
        level = logging.WARNING if self._counts["different"] else logging.INFO
        log.log(level, "primary and backup compared %s complete=%s", counts, "yes" if is_complete and not self._skipped else "no")

    def compare(self) -> None:
        with self._open:
            for primary in list(self._router.backends):
                for keys in self._keys_of(primary, self._router.primary_of):
                    self._compare(keys)
                    gevent.sleep(PAUSE)
            for backup in list(self._router.backups):
                for keys in self._keys_of(backup, lambda key: self._router.copies_of(key)[0]):
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
        for key in self._sampled_keys(backend) if self._sample else self._all_keys(backend):
            if owner_of(key) is backend and self._router.primary_of(key).label != self._router.copies_of(key)[0].label:
                batch.append(key)
            if len(batch) >= KEYS_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    def _sampled_keys(self, backend: "Backend") -> list[bytes]:
        sample = KeySample(self._sample)
        items = self._listings.read_listing(METADUMP, METADUMP_LINE, backend, sample, KeySample.add_chunk)
        if not isinstance(items, Items):
            self._skip(backend, f"not listed: {items.decode(errors='replace').strip()}")
            return []
        keys = sample.keys()
        self._sampled[backend] = None if sample.is_complete() else set(keys)
        return keys

    def _all_keys(self, backend: "Backend") -> Iterator[bytes]:
        with Spill(MAX_LISTING) as spill:
            items = self._listings.read_listing(METADUMP, METADUMP_LINE, backend, spill, self._listings.write_spill)
            if not isinstance(items, Items):
                self._skip(backend, f"not listed: {items.decode(errors='replace').strip()}")
                return
            self._sampled[backend] = None
            rest = b""
            for begin in range(items.begin, items.end, LISTING_STEP):
                lines = (rest + self._listings.read_spill(spill, begin, min(LISTING_STEP, items.end - begin))).split(b"\n")
                rest = lines.pop()
                yield from filter(None, map(key_of, lines))

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
        """Compare those of `keys`, from the listing of a backup, that were not compared when the listing of their primary was read."""
        others: list[bytes] = []
        not_on_primary: dict[Any, list[bytes]] = {}  # {primary: keys that may be on the backup only}
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
        """(key, item of its primary, item of its backup) for each of `keys` that can be read on both servers."""
        pairs: dict[tuple[Any, Any], list[bytes]] = {}
        for key in keys:
            primary, backup = self._router.primary_of(key), self._router.copies_of(key)[0]
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
                primary, backup = self._router.primary_of(key), self._router.copies_of(key)[0]
                self._keys.append({"key": os.fsdecode(key), "primary": primary.label, "backup": backup.label})
        if self._repairs and differing:
            self._repair(list(differing))

    def _repair(self, keys: Sequence[bytes]) -> None:
        """Delete `keys` on their backups, by the rule for writes that a server missed."""
        backups = [self._router.copies_of(key)[0] for key in keys]
        for key, backup in zip(keys, backups):
            backup.missed_key(key)
        left = list(zip(keys, backups))
        with gevent.Timeout(REPAIR_TIMEOUT, False):
            while left := [(key, backup) for key, backup in left if backup.may_be_stale(key)]:
                gevent.sleep(REPAIR_CHECK_INTERVAL)
        self._counts["repaired"] += len(keys) - len(left)


def _batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE))

"""Fills one server from the other sets, for the operator command `refill` (refill_command.py).

The keys are from listings of the servers of the other sets. Each key that belongs to the server, and that it lacks, is fetched and filled as if a
client had read it (gmproxy.routing.background_fill): by the same connections, and by the same rules.
"""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from gmproxy import internal_errors
from gmproxy.backend.item_reader import ItemReader
from gmproxy.errors import EJECTED, BackendError
from gmproxy.monitoring.interfaces import MonitoredPool
from gmproxy.monitoring.listed_keys import NotListed, all_keys
from gmproxy.routing.background_fill import OUTCOMES, BackgroundFill

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend
    from gmproxy.routing.sets import ServerSet

#: Keys that are looked for at once on the server, and the least seconds until the next ones: so that clients hardly notice.
KEYS_AT_ONCE = 20
PAUSE = 0.001

#: Keys are requested so that there are about this number of bursts in a second, of at most KEYS_AT_ONCE keys.
BURSTS = 10

#: Keys of a listing that are looked at without a pause: a moment for other greenlets.
LOOK_AT_ONCE = 200

#: Seconds between two log lines about the progress.
LOG_INTERVAL = 10.0

#: Seconds for which the refill waits for an ejected server, and for the deletion of keys there that may be stale; and between two looks.
WAIT_EJECTED = 60.0
WAIT_STALE = 5.0
LOOK_INTERVAL = 0.05

#: Timeouts of the pool within which the fills of some keys must have ended: each has several requests.
TIMEOUTS_OF_FILL = 10

#: What is counted. `checked`: keys of the server in the listings, some of them in several; `present`: it had them; `pending`: they may be stale
#: there. The rest: the outcome of the fill.
COUNTS = ("checked", "present", "pending", *OUTCOMES)

RUNNING, DONE, STOPPED, ENDED = "running", "done", "stopped", "failed"


class _Ended(Exception):
    """The refill cannot go on; the text has the reason."""


class Refill:
    """Fills `backend` of `pool` with at most `rate` keys per second, in a greenlet of its own.

    counts   see COUNTS
    state    RUNNING, DONE, STOPPED by an operator, or ENDED before all was done
    """

    def __init__(self, pool: MonitoredPool, backend: "Backend", rate: int) -> None:
        self.pool = pool
        self.backend = backend
        self.counts = dict.fromkeys(COUNTS, 0)
        self.state = RUNNING
        self._rate = rate
        self._reason = ""
        self._source = ""  # label of the server whose listing is read
        self._skipped: dict[str, str] = {}  # label of a server -> why its keys are not known
        self._began_at = self._log_at = time.monotonic()
        self._ended_at: float | None = None
        self._next_at = 0.0  # monotonic seconds: no key is fetched before
        self._reader: ItemReader | None = None
        backend.log.info("refill started server=%s rate=%d", backend.label, rate)
        self._greenlet = gevent.spawn(self._refill_all)

    def is_running(self) -> bool:
        """Loop callback or greenlet."""
        return self.state == RUNNING

    def stop_refilling(self) -> None:
        """For an operator. Loop callback or greenlet; does not wait."""
        if self.is_running():
            self._end_with(STOPPED, "")
            self._greenlet.kill(block=False)

    def describe(self) -> dict[str, Any]:
        """For the response to `refill`. Loop callback or greenlet."""
        backend = self.backend
        return {
            "pool": self.pool.title,
            "role": backend.role,
            "label": backend.label,
            "name": backend.server.name or "",
            "state": self.state,
            "reason": self._reason,
            "rate": self._rate,
            "seconds": round((self._ended_at or time.monotonic()) - self._began_at, 3),
            "source": self._source if self.is_running() else "",
            **self.counts,
            "skipped": [{"server": label, "reason": reason} for label, reason in self._skipped.items()],
        }

    # -- in the greenlet

    def _refill_all(self) -> None:
        try:
            for source in self._sources():
                self._source = source.label
                self._refill_from(source)
            self._end_with(DONE, "")
        except _Ended as ended:
            self._end_with(ENDED, str(ended))
        except Exception as error:
            internal_errors.record("refill", self.backend.log_name)
            self._end_with(ENDED, repr(error))
        finally:
            self._close_reader()

    def _end_with(self, state: str, reason: str) -> None:
        """Does nothing if it has ended."""
        if self.is_running():
            self.state, self._reason = state, reason
            self._ended_at = time.monotonic()
            detail = f" reason={reason!r}" if reason else ""
            self.backend.log.info("refill ended server=%s state=%s %s%s", self.backend.label, state, self._progress(), detail)

    def _progress(self) -> str:
        return " ".join(f"{name}={count}" for name, count in self.counts.items())

    def _log_progress(self) -> None:
        now = time.monotonic()
        if now - self._log_at >= LOG_INTERVAL:
            self._log_at = now
            self.backend.log.info("refill server=%s %s", self.backend.label, self._progress())

    def _own_set(self) -> "ServerSet":
        """The set of the server now: a reload makes new ones. Raises _Ended."""
        own = next((one for one in self.pool.router.sets if self.backend in one.backends), None)
        if own is None:
            raise _Ended("the server was removed from the configuration")
        if not own.enabled:
            raise _Ended(f"{own.name} is switched off")
        return own

    def _sources(self) -> Iterator["Backend"]:
        """The servers of the other sets."""
        own = self._own_set()
        for one in list(self.pool.router.sets):
            if one is not own and one.enabled:
                yield from one.backends

    def _refill_from(self, source: "Backend") -> None:
        if source.health.ejected:
            self._skipped[source.label] = EJECTED
            return
        at_once = max(1, min(KEYS_AT_ONCE, self._rate // BURSTS))
        batch: list[bytes] = []
        try:
            for number, key in enumerate(all_keys(self.pool.context.key_listings, source)):
                if number % LOOK_AT_ONCE == 0:
                    gevent.sleep(0)
                if self._own_set().server_of(key) is self.backend:
                    batch.append(key)
                if len(batch) >= at_once:
                    self._refill(batch)
                    batch = []
        except NotListed as error:
            self._skipped[source.label] = str(error)
        if batch:
            self._refill(batch)

    def _refill(self, keys: Sequence[bytes]) -> None:
        """Fill the server with those of `keys` that it lacks."""
        counts = self.counts
        counts["checked"] += len(keys)
        self._wait_until_up()
        fresh = self._wait_until_fresh(keys)
        counts["pending"] += len(keys) - len(fresh)
        present = self._find(fresh)
        counts["present"] += len(present)
        lacking = [key for key in fresh if key not in present]
        if lacking:
            self._fill(lacking)
        self._log_progress()
        gevent.sleep(PAUSE)

    def _wait_until_up(self) -> None:
        with gevent.Timeout(WAIT_EJECTED, _Ended("the server is ejected")):
            while self.backend.health.ejected:
                gevent.sleep(LOOK_INTERVAL)

    def _wait_until_fresh(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that have no pending invalidation, now or a moment later."""
        with gevent.Timeout(WAIT_STALE, False):
            while any(map(self.backend.may_be_stale, keys)):
                gevent.sleep(LOOK_INTERVAL)
        return [key for key in keys if not self.backend.may_be_stale(key)]

    def _find(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of `keys` that the server has; none if it does not reply: a fill never replaces a value."""
        try:
            if self._reader is None:
                self._reader = ItemReader(self.backend.server, self.backend.options)
            return self._reader.find(keys)
        except BackendError:
            self._close_reader()
            return set()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.__exit__()
            self._reader = None

    def _fill(self, keys: Sequence[bytes]) -> None:
        self._keep_rate(len(keys))
        burst = Burst(len(keys), self.counts)
        for key in keys:
            self._own_set()
            fill = self.pool.router.fill_of(self.backend)
            if fill is None or not self.backend.options.fills_enabled:
                raise _Ended("fills are off" if fill is not None else "the server is not filled from other sets now")
            BackgroundFill(key, fill, burst.on_end).start()
        burst.wait(self.backend.options.timeout * TIMEOUTS_OF_FILL)

    def _keep_rate(self, keys: int) -> None:
        """Wait until `keys` more may be fetched."""
        now = time.monotonic()
        gevent.sleep(max(self._next_at - now, 0.0))
        self._next_at = max(self._next_at, now) + keys / self._rate


class Burst:
    """Fills that were started together: `count` of them. `counts`: their outcomes are counted there."""

    def __init__(self, count: int, counts: dict[str, int]) -> None:
        self._left = count
        self._counts = counts
        self._ended = Event()

    def on_end(self, outcome: str) -> None:
        """One has ended. Loop callback or greenlet."""
        self._counts[outcome] += 1
        self._left -= 1
        if not self._left:
            self._ended.set()

    def wait(self, seconds: float) -> None:
        """Until all have ended, for at most `seconds`. Greenlet only."""
        self._ended.wait(seconds)

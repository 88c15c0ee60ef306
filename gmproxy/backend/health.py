"""The health of a server, as a state machine: no socket, no clock, no greenlet. Its methods report what happened, and when.

    up --a failure--> failing --failures in a row reach the limit--> ejected --time--> probing --a reply--> warming or up
                      failing --a success--> up or warming           ejected <--no reply-- probing

An ejected server is sent nothing but probes: the first after FIRST_PROBE_DELAY, then each after twice the delay of the one before, at most
`longest_delay`. A random part is taken off each delay, so that several proxies do not probe at the same moments. Requests of clients are never the
probe. A server that is ejected again soon after it was restored is flapping: its first probe has twice the delay that was reached before.

A failing server that did not reply in time may hang, and is probed at once. Each probe without a reply is another failure, so that not every
request up to the limit has to wait for its timeout. A server whose reply could not be understood is probed at once, too, but that is not a failure:
a client may have caused it.

Only what the server is to blame for may be reported here. A probe that gmproxy could not make has no result (`probe_void`).

Warming: a miss of the server proves nothing, because its memory is new or lacks keys that the backup has. This lasts for `warming_time` after the
server started, or after keys were deleted there, or until the backups have nothing that the server lacks.
"""

import math
import random

UP, FAILING, EJECTED, PROBING, WARMING = STATES = ("up", "failing", "ejected", "probing", "warming")

FIRST_PROBE_DELAY = 0.2  # seconds from ejection to the first probe
JITTER = 0.25  # the random part taken off a delay at most
STEADY = 60.0  # seconds after which a restored server no longer counts as flapping

#: The backups have nothing to add if they had none of this number of keys in a row that a warming primary lacks, over at least this time in seconds.
MISSES_WITHOUT_RESULT = 1000
TIME_WITHOUT_RESULT = 60.0


class Health:
    """All times are monotonic seconds; `now` is the present one. Methods: loop callback or greenlet.

    failure_limit  failures in a row that eject the server
    longest_delay  seconds between two probes at most
    warming_time   seconds
    failures       in a row, since the last success
    ejected        True while only probes may be sent
    by_hand        True after the operator command `eject`, until `restore`: then not even probes are sent
    ejected_at     when it was ejected last
    restored_at    when it was restored last; -inf: never
    probe_at       when the next probe is due, while ejected or suspected
    ejections      so far
    """

    __slots__ = ("failure_limit", "longest_delay", "warming_time", "failures", "ejected", "by_hand", "ejected_at", "restored_at",
                 "probe_at", "ejections", "_probing", "_probed_at", "_suspected", "_delay", "_new_until",
                 "_holes_until", "_fruitless", "_fruitless_since")  # fmt: skip

    def __init__(self, failure_limit: int, longest_delay: float, warming_time: float = 0.0) -> None:
        self.failure_limit = failure_limit
        self.longest_delay = longest_delay
        self.warming_time = warming_time
        self.failures = 0
        self.ejected = False
        self.by_hand = False
        self.ejected_at = 0.0
        self.probe_at = 0.0
        self.ejections = 0
        self._probing = False
        self._probed_at = -math.inf  # when the last probe began
        self._suspected = False  # a probe is due although it is not ejected
        self._delay = 0.0  # before the last probe
        self.restored_at = -math.inf
        self._new_until = math.inf  # warming because it started lately; inf: its uptime is unknown
        self._holes_until = -math.inf  # warming because of keys that were deleted there
        self._fruitless = 0  # keys in a row that the backups lack as well
        self._fruitless_since: float | None = None

    def state(self, now: float) -> str:
        """One of STATES."""
        if self.ejected:
            return PROBING if self._probing else EJECTED
        if self.failures:
            return FAILING
        return WARMING if self.is_warming(now) else UP

    # -- failures

    def failed(self, now: float, count: int = 1, hangs: bool = False) -> bool:
        """`count` requests failed at once; `hangs`: the server did not reply in time. Returns True if this ejects the server."""
        self.failures += count
        if self.ejected:
            return False
        if self.failures < self.failure_limit:
            if hangs and not self._suspected:
                self._suspected = True
                self.probe_at = now
            return False
        self.ejected = True
        self.ejected_at = now
        self.ejections += 1
        self._suspected = False
        flaps = now - self.restored_at < STEADY
        self._delay = min(self._delay * 2, self.longest_delay) if flaps and self._delay else FIRST_PROBE_DELAY
        self._schedule(now)
        return True

    def suspect(self, now: float) -> None:
        """A reply could not be understood: a probe is due, at most one in FIRST_PROBE_DELAY."""
        if not self.ejected and not self._suspected:
            self._suspected = True
            self.probe_at = max(now, self._probed_at + FIRST_PROBE_DELAY)

    def eject_by_hand(self, now: float) -> bool:
        """Send it neither requests nor probes until `release`. Returns False if it was ejected already."""
        self.by_hand = True
        if self.ejected:
            return False
        self.ejected = True
        self.ejected_at = now
        self.ejections += 1
        self._suspected = False
        return True

    def ejected_elsewhere(self, now: float) -> None:
        """Another worker has ejected the server."""
        self.ejected = True
        self.ejected_at = now
        self.ejections += 1
        self._suspected = False
        self._delay = FIRST_PROBE_DELAY
        self._schedule(now)

    def restored_elsewhere(self, now: float) -> None:
        """Another worker has restored the server."""
        self.by_hand = False
        self.ejected = False
        self.failures = 0
        self.restored_at = now

    def release(self, now: float) -> None:
        """Probe an ejected server now, and restore it if that succeeds, whether it was ejected by hand or not."""
        self.by_hand = False
        self._delay = FIRST_PROBE_DELAY
        self.probe_at = now

    def succeeded(self) -> None:
        """A request got its reply."""
        self.failures = 0
        self._suspected = False

    # -- probes

    def probe_is_due(self, now: float) -> bool:
        return (self.ejected or self._suspected) and not self.by_hand and not self._probing and now >= self.probe_at

    def probe_started(self, now: float) -> None:
        self._probing = True
        self._probed_at = now

    def probe_failed(self, now: float) -> bool:
        """The server did not reply. Returns True if this ejects it."""
        began = self._probed_at if self._probing else now
        self._probing = False
        if self._suspected:
            return self.failed(now)
        if self.ejected:
            self._delay = min(self._delay * 2, self.longest_delay)
            self._schedule(began)
        return False

    def probe_void(self, now: float) -> None:
        """The probe that was started, if any, has no result, and the server is not to blame. The next one follows after the same delay, not at once:
        what gmproxy lacks it may lack for a moment only."""
        if not self._probing:
            return
        self._probing = False
        if self.ejected:
            self._schedule(now)
        else:
            self.probe_at = now + min(FIRST_PROBE_DELAY, self.longest_delay)

    def probe_succeeded(self, now: float) -> None:
        """The server replied: restore it, unless it was ejected by hand. Without an ejection its failures stay: only replies to requests
        reset them."""
        self._probing = False
        self._suspected = False
        if self.ejected and not self.by_hand:
            self.ejected = False
            self.failures = 0
            self.restored_at = now

    def probe_within(self, longest_delay: float, now: float) -> None:
        """`longest_delay` has changed. It holds for the next probe already."""
        self.longest_delay = longest_delay
        self.probe_at = min(self.probe_at, now + longest_delay)

    def _schedule(self, since: float) -> None:
        """The next probe is due `_delay` after `since`, when the last one began."""
        self._delay = min(self._delay, self.longest_delay)
        self.probe_at = since + self._delay * (1 - random.uniform(0, JITTER))

    # -- warming

    def is_warming(self, now: float) -> bool:
        return now < self._new_until or now < self._holes_until

    def age_unknown(self) -> None:
        """It may be another process now, with an empty memory."""
        self._new_until = math.inf

    def age_known(self, now: float, uptime: float) -> None:
        """The process has run for `uptime` seconds."""
        self._new_until = now + self.warming_time - uptime
        self._reset_misses()

    def has_holes(self, now: float) -> None:
        """Keys were deleted there that the backups may have."""
        self._holes_until = now + self.warming_time
        self._reset_misses()

    def record_misses(self, now: float, asked: int, found: int) -> None:
        """Of `asked` keys that this server did not have, the backups had `found`."""
        if found:
            self._reset_misses()
            return
        self._fruitless += asked
        if self._fruitless_since is None:
            self._fruitless_since = now
        elif self._fruitless >= MISSES_WITHOUT_RESULT and now - self._fruitless_since >= TIME_WITHOUT_RESULT and self._new_until < math.inf:
            self._new_until = self._holes_until = now

    def _reset_misses(self) -> None:
        self._fruitless = 0
        self._fruitless_since = None

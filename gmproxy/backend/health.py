"""How a backend is, as a pure machine: it is told what happened and when, and it does nothing itself.

    up --a failure--> failing --failures in a row reach the limit--> ejected --time--> probing --an answer--> warming or up
                      failing --a success--> up or warming           ejected <--no answer-- probing

While ejected nothing is sent but probes: one after `FIRST_PROBE_DELAY`, then each twice as late as the one before, never more than
`longest_delay` after it. A random part is taken off each delay, so that many proxies do not probe in step. Live traffic is never the
probe. A server that is ejected again soon after it came back is a flapping one: its probes begin as late as they had become.

A failing server that did not answer in time is suspected to hang: it is probed at once, and each probe in vain is another
failure. So its clients need not wait for a timeout each until the limit is reached. A server whose answer could not be understood is
suspected, too: that alone is no failure, since a client may have caused it.

Only what is the server's fault may be counted here. A probe that could not be made for a reason of our own has no result (`probe_void`).

Warming: what the server does not have proves nothing, because its memory is new or has holes. It is so for `warming_time` after it
started, or after what it had missed was deleted there, or until the backups have nothing to add any more.
"""

import math
import random

UP, FAILING, EJECTED, PROBING, WARMING = STATES = ("up", "failing", "ejected", "probing", "warming")

FIRST_PROBE_DELAY = 0.2  # seconds from ejection to the first probe
JITTER = 0.25  # a delay is up to this part shorter
STEADY = 60.0  # seconds after which a server that came back is no longer thought to flap

#: A backup that knew none of so many keys in a row that a warming primary did not have, over so many seconds, has nothing to add.
MISSES_IN_VAIN = 1000
TIME_IN_VAIN = 60.0


class Health:
    """
    failures       in a row, since the last success
    ejected        True while only probes may be sent
    by_hand        True while an operator wants it left alone: then not even probes are sent
    probe_at       when the next probe is due (monotonic seconds; only while ejected or suspected)
    ejections      so far
    """

    __slots__ = ("failure_limit", "longest_delay", "warming_time", "failures", "ejected", "by_hand", "ejected_at", "probe_at",
                 "ejections", "_probing", "_probed_at", "_suspected", "_delay", "_restored_at", "_young_until",
                 "_holes_until", "_in_vain", "_in_vain_since")  # fmt: skip

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
        self._suspected = False
        self._delay = 0.0  # before the last probe
        self._restored_at = -math.inf
        self._young_until = math.inf  # warming because of its age, which is not known yet
        self._holes_until = -math.inf  # warming because of what was deleted on it
        self._in_vain = 0  # misses in a row of which the backups knew nothing either
        self._in_vain_since: float | None = None

    def state(self, now: float) -> str:
        """One of STATES."""
        if self.ejected:
            return PROBING if self._probing else EJECTED
        if self.failures:
            return FAILING
        return WARMING if self.is_warming(now) else UP

    # -- failures

    def failed(self, now: float, count: int = 1, hangs: bool = False) -> bool:
        """`count` requests failed at once; `hangs`: for want of an answer. Returns True if this ejects the backend."""
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
        flaps = now - self._restored_at < STEADY
        self._delay = min(self._delay * 2, self.longest_delay) if flaps and self._delay else FIRST_PROBE_DELAY
        self._schedule(now)
        return True

    def suspect(self, now: float) -> None:
        """It answered what could not be understood: a probe is due at once, but a server that was just probed has a moment of rest."""
        if not self.ejected and not self._suspected:
            self._suspected = True
            self.probe_at = max(now, self._probed_at + FIRST_PROBE_DELAY)

    def eject_by_hand(self, now: float) -> bool:
        """Leave it alone until `release`. Returns True if this ejects it, False if it was ejected anyway."""
        self.by_hand = True
        if self.ejected:
            return False
        self.ejected = True
        self.ejected_at = now
        self.ejections += 1
        self._suspected = False
        return True

    def release(self, now: float) -> None:
        """A server that was ejected, by hand or not, is probed now and trusted again if it answers."""
        self.by_hand = False
        self._delay = FIRST_PROBE_DELAY
        self.probe_at = now

    def succeeded(self) -> None:
        self.failures = 0
        self._suspected = False

    # -- probes

    def probe_is_due(self, now: float) -> bool:
        return (self.ejected or self._suspected) and not self.by_hand and not self._probing and now >= self.probe_at

    def probe_begins(self, now: float) -> None:
        self._probing = True
        self._probed_at = now

    def probe_failed(self, now: float) -> bool:
        """The server did not answer. Returns True if this ejects it."""
        began = self._probed_at if self._probing else now
        self._probing = False
        if self._suspected:
            return self.failed(now)
        if self.ejected:
            self._delay = min(self._delay * 2, self.longest_delay)
            self._schedule(began)
        return False

    def probe_void(self, now: float) -> None:
        """The probe that is under way, if one is, has no result, through no fault of the server. The next one comes after the same delay
        as this one, and not at once: what we lack now we may lack for a moment."""
        if not self._probing:
            return
        self._probing = False
        if self.ejected:
            self._schedule(now)
        else:
            self.probe_at = now + min(FIRST_PROBE_DELAY, self.longest_delay)

    def probe_succeeded(self, now: float) -> None:
        """It answered: trust it again, if it was ejected, and do not suspect it. The failures of a server that is not ejected are
        forgiven by answers to requests only."""
        self._probing = False
        self._suspected = False
        if self.ejected and not self.by_hand:
            self.ejected = False
            self.failures = 0
            self._restored_at = now

    def probe_within(self, longest_delay: float, now: float) -> None:
        """`longest_delay` has changed: the next probe is not later than that."""
        self.longest_delay = longest_delay
        self.probe_at = min(self.probe_at, now + longest_delay)

    def _schedule(self, since: float) -> None:
        """The next probe comes `_delay` after `since`, when the last one began."""
        self._delay = min(self._delay, self.longest_delay)
        self.probe_at = since + self._delay * (1 - random.uniform(0, JITTER))

    # -- warming

    def is_warming(self, now: float) -> bool:
        return now < self._young_until or now < self._holes_until

    def age_unknown(self) -> None:
        """It may be another process now."""
        self._young_until = math.inf

    def age_known(self, now: float, uptime: float) -> None:
        """It has run for `uptime` seconds."""
        self._young_until = now + self.warming_time - uptime
        self._begin_anew()

    def has_holes(self, now: float) -> None:
        """Keys were deleted on it that the backups may have."""
        self._holes_until = now + self.warming_time
        self._begin_anew()

    def lacked(self, now: float, asked: int, found: int) -> None:
        """Of `asked` keys that it did not have, the backups had `found`."""
        if found:
            self._begin_anew()
            return
        self._in_vain += asked
        if self._in_vain_since is None:
            self._in_vain_since = now
        elif self._in_vain >= MISSES_IN_VAIN and now - self._in_vain_since >= TIME_IN_VAIN and self._young_until < math.inf:
            self._young_until = self._holes_until = now

    def _begin_anew(self) -> None:
        self._in_vain = 0
        self._in_vain_since = None

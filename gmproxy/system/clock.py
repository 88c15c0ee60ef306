"""The clock for timeouts: it stands still while this process does not run.

A process may be stopped (SIGSTOP, a debugger), get no CPU time, be paused with its virtual machine, or be busy in one long step. Meanwhile
it neither reads replies nor sends requests, so a timeout must not count that time against a server or a client. The worker calls `advance` at
short intervals (ticks); if the time between two ticks is much longer than the interval, the rest of it does not count.

The clock is monotonic, unlike the time of the loop (`loop.now()`), which jumps when the system clock is set: what is scheduled by that may run
an hour late.
"""

import time
from collections.abc import Callable

#: Of the time between two ticks at most this many intervals count; the rest is taken for a pause.
INTERVALS_COUNTED = 2


class RunningClock:
    """Seconds from an arbitrary start, without pauses. `read()` returns monotonic seconds, with pauses.

    Loop callback or greenlet. Nothing here blocks or raises.
    """

    __slots__ = ("_read", "_paused", "_last_tick", "_counted")

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._paused = 0.0  # seconds that have not counted so far
        self._last_tick: float | None = None  # None while there are no ticks: then all time counts
        self._counted = 0.0  # seconds after a tick that count

    def now(self) -> float:
        """The time now: the seconds that count, up to now."""
        read = self._read()
        return read - self._paused - self._overdue(read)

    def advance(self, interval: float) -> float:
        """A tick. The next one is expected in `interval` seconds. Returns `now()`."""
        read = self._read()
        self._paused += self._overdue(read)
        self._last_tick = read
        self._counted = interval * INTERVALS_COUNTED
        return read - self._paused

    def stop(self) -> None:
        """End the ticks: from now on all time counts."""
        self._paused += self._overdue(self._read())
        self._last_tick = None

    def _overdue(self, read: float) -> float:
        """The seconds since the last tick that do not count, at the time `read`."""
        if self._last_tick is None:
            return 0.0
        return max(read - self._last_tick - self._counted, 0.0)


#: The clock of this process. The worker in it calls `advance`.
running = RunningClock()

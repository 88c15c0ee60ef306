"""The time by which timeouts are measured: it stands still while this process does not run.

A process may be stopped (SIGSTOP, a debugger), starved of CPU, paused with its virtual machine, or busy in one long step. Meanwhile
replies arrive and are not read, and requests wait and are not sent: no server and no client is late because of that. So the worker calls
`advance` at short intervals, and a gap between two ticks that is much longer than the interval does not count.

It is monotonic, unlike the time of the loop (`loop.now()`), which follows the clock of the machine when that is set: what is
scheduled by that time may come an hour late.
"""

import time
from collections.abc import Callable

#: A tick may be late by this many intervals, less one, before the rest of the gap is taken for a pause.
INTERVALS_COUNTED = 2


class RunningClock:
    """Seconds from an arbitrary start. `read()` gives those that pass in any case.

    May be used by callbacks of the loop and by greenlets; nothing here waits or raises.
    """

    __slots__ = ("_read", "_paused", "_last_tick", "_counted")

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._paused = 0.0  # seconds that did not count so far
        self._last_tick: float | None = None  # None while there are no ticks: then all time counts
        self._counted = 0.0  # seconds after a tick that count

    def now(self) -> float:
        """The seconds that count, also within a gap that has not ended yet."""
        read = self._read()
        return read - self._paused - self._overdue(read)

    def advance(self, interval: float) -> float:
        """The process runs, and will call this again in `interval` seconds. Returns `now()`."""
        read = self._read()
        self._paused += self._overdue(read)
        self._last_tick = read
        self._counted = interval * INTERVALS_COUNTED
        return read - self._paused

    def stop(self) -> None:
        """There are no more ticks: from now on all time counts."""
        self._paused += self._overdue(self._read())
        self._last_tick = None

    def _overdue(self, read: float) -> float:
        if self._last_tick is None:
            return 0.0
        return max(read - self._last_tick - self._counted, 0.0)


#: The clock of this process. A process that serves clients ticks it.
running = RunningClock()

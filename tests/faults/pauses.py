"""Times in which gmproxy could not reply, although it was not at fault: it was stopped, or a process got no processor.

These times are subtracted from the duration of a request before the test judges whether it hung.
"""

import threading
import time
from bisect import insort
from collections.abc import Iterable

from support.timing import join

#: Seconds between two checks.
INTERVAL = 0.05

#: Seconds without a processor, between two checks, from which on a pause is recorded. Every process waits less than this now and then.
LEAST = 0.02


class Pauses:
    """Intervals (time.monotonic()). Any thread may add one."""

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    def add(self, begun: float, ended: float) -> None:
        with self._lock:
            insort(self._intervals, (begun, ended))

    def within(self, begun: float, ended: float) -> float:
        """Seconds of pauses between these times. Pauses that overlap count once."""
        with self._lock:
            intervals = list(self._intervals)
        total, reached = 0.0, begun
        for start, stop in intervals:
            start, stop = max(start, reached), min(stop, ended)
            if stop > start:
                total += stop - start
                reached = stop
        return total


class Watch:
    """During the `with` block it records in `pauses` when this process did not run, and when the proxy's processes waited for a processor.

    It calls `pids()` at each check, because a worker may be replaced.
    """

    def __init__(self, pauses: Pauses, pids) -> None:
        self._pauses = pauses
        self._pids = pids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *failure) -> None:
        self._over.set()
        join(self._thread)

    def _run(self):
        waited = {}
        last = time.monotonic()
        while not self._over.wait(INTERVAL):
            now = time.monotonic()
            if now - last - INTERVAL > LEAST:
                self._pauses.add(last, now)
            for pid, seconds in waits_for_processor(self._pids()).items():
                more = seconds - waited.get(pid, seconds)
                if more > LEAST:
                    self._pauses.add(now - more, now)
                waited[pid] = seconds
            last = now


def waits_for_processor(pids: Iterable[int]) -> dict[int, float]:
    """{pid: seconds that its main thread was ready to run but did not}, from Linux. Processes that have ended are not in it."""
    waits = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/schedstat") as counts:
                waits[pid] = int(counts.read().split()[1]) / 1e9
        except (OSError, IndexError):
            pass
    return waits

"""Counters of workers that have died or do not respond.

Without them the sum over all workers would decrease when a worker dies or hangs. Readers of counters (Prometheus, scripts that read `stats`)
take a decrease for a restart of the service, and the value after it for new events.
"""

from collections.abc import Callable
from typing import Any

from gmproxy.client import stats
from gmproxy.monitoring import report
from gmproxy.process.worker_group import Result

#: {command: (function that reduces a result to its counters, function that merges a list of such results)}
COUNTED: dict[str, tuple[Callable[[Result], Result], Callable[[list[Result]], Result]]] = {
    "report": (report.counters_only, report.merge),
    "stats": (stats.counted, lambda results: stats.merge(results, 0)),
}

#: A command with its arguments.
Call = tuple[Any, ...]


class CounterTotals:
    """The last result of each worker, reduced to its counters. It is kept as long as the service runs. Loop callback only."""

    def __init__(self) -> None:
        self._last: dict[Call, dict[int, Result]] = {}  # by call and pid
        self._of_dead: dict[Call, Result] = {}  # of all workers that have died, merged

    def record(self, command: str, arguments: list[Any], pid: int, result: Result) -> None:
        """Keep the counters of `result`, the result of the worker `pid`."""
        if command in COUNTED and "error" not in result:
            counted, _ = COUNTED[command]
            self._last.setdefault((command, *arguments), {})[pid] = counted(result)

    def on_death(self, pid: int) -> None:
        """Add the last counters of the worker `pid`, which has ended, to those of all dead workers."""
        for call, results in self._last.items():
            last = results.pop(pid, None)
            if last is not None:
                _, merge = COUNTED[call[0]]
                self._of_dead[call] = merge([self._of_dead[call], last]) if call in self._of_dead else last

    def complete(self, command: str, arguments: list[Any], results: dict[int, Result]) -> list[Result]:
        """The `results`, {pid: result}, as a list, followed by the last known counters of the workers that are not in it, dead ones too."""
        completed = list(results.values())
        if command in COUNTED and any("error" not in result for result in completed):
            call = (command, *arguments)
            completed += [result for pid, result in self._last.get(call, {}).items() if pid not in results]
            if call in self._of_dead:
                completed.append(self._of_dead[call])
        return completed

    def clear(self) -> None:
        """All counters start from zero."""
        self._last.clear()
        self._of_dead.clear()

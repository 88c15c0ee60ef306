"""Counters of workers that have died or do not respond.

Without them a sum over all workers would decrease when one of them dies or hangs; and what reads counters (Prometheus, a script over
`stats`) takes that for a restart of the service, and all that is left for a burst.
"""

from collections.abc import Callable
from typing import Any

from gmproxy.client import stats
from gmproxy.monitoring import report
from gmproxy.process.worker_group import Result

#: command -> (the counters of a result, many results -> one)
COUNTED: dict[str, tuple[Callable[[Result], Result], Callable[[list[Result]], Result]]] = {
    "report": (report.counters_only, report.merge),
    "stats": (stats.counted, lambda results: stats.merge(results, 0)),
}

#: A command with its arguments.
Call = tuple[Any, ...]


class CounterTotals:
    """The last result of each worker, reduced to its counters. Lives as long as the service."""

    def __init__(self) -> None:
        self._last: dict[Call, dict[int, Result]] = {}  # by call and pid
        self._of_dead: dict[Call, Result] = {}  # of all workers that have died, merged

    def record(self, command: str, arguments: list[Any], pid: int, result: Result) -> None:
        """`result` is that of the worker `pid`."""
        if command in COUNTED and "error" not in result:
            counted, _ = COUNTED[command]
            self._last.setdefault((command, *arguments), {})[pid] = counted(result)

    def on_death(self, pid: int) -> None:
        """The worker `pid` has ended."""
        for call, results in self._last.items():
            last = results.pop(pid, None)
            if last is not None:
                _, merge = COUNTED[call[0]]
                self._of_dead[call] = merge([self._of_dead[call], last]) if call in self._of_dead else last

    def complete(self, command: str, arguments: list[Any], results: dict[int, Result]) -> list[Result]:
        """The `results`, {pid: result}, as a list, and after them the counters of the workers that are missing in it."""
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

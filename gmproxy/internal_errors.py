"""Internal errors: exceptions caused by faults in gmproxy itself. They are logged, counted and contained.

A loop that serves many (of a worker, the master, a listener) calls code for one client, server, worker or operator. If that code raises, the
loop catches the exception, calls `record`, and goes on with the others. The count is `internal_errors` in `stats`, and
gmproxy_internal_errors_total in Prometheus.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

from gmproxy.errors import StartError

log = logging.getLogger("gmproxy")

_count = 0


def record(where: str, details: str = "") -> None:
    """Count the exception being handled, and log it with its traceback. `where`: the failed step as module.function, such as
    "link.on_readable"; `details`: fields of the log line, such as "client=10.0.0.9:40312". Called in an `except` block: loop callback or
    greenlet, master or worker. Never raises or blocks."""
    global _count
    _count += 1
    try:
        log.exception("internal error where=%s", f"{where} {details}".rstrip())
    except Exception:  # the log itself fails: the caller goes on all the same
        pass


def count() -> int:
    """The number of internal errors of this process since its start or the last reset."""
    return _count


def forget() -> None:
    """Set the count to zero, in a forked process and when counters are reset."""
    global _count
    _count = 0


def guarded(where: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` as a function that raises no Exception: it is recorded with `where`, and None is returned."""

    @functools.wraps(call)
    def guard(*arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except Exception:
            record(where)
            return None

    return guard


class Attempts:
    """Runs several steps, each of them whether or not the previous ones have failed."""

    def __init__(self, where: str) -> None:
        """`where`: as for `record`."""
        self._where = where
        self._failed: list[str] = []

    def make(self, step: Callable[..., object], *arguments: object) -> None:
        """Call step(*arguments). An exception is recorded."""
        try:
            step(*arguments)
        except Exception as error:
            record(self._where)
            self._failed.append(repr(error))

    def end(self) -> None:
        """Raise StartError if a step has failed."""
        if self._failed:
            raise StartError(f"internal error: {self._failed[0]}")

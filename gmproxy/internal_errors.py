"""Internal errors: exceptions that gmproxy's own code should not have raised. They are logged, counted, and kept from spreading.

A loop that serves many (of a worker, the master, a listener) calls code on behalf of one client, server, worker or operator. Where that
code raises, the loop catches the exception, calls `record`, and goes on. The count is `internal_errors` in `stats` and
gmproxy_internal_errors_total for Prometheus.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

from gmproxy.errors import StartError

log = logging.getLogger("gmproxy")

_count = 0


def record(where: str, details: str = "") -> None:
    """Count the exception being handled and log it with its traceback. `where`: what was being done, one word such as
    "link.on_readable"; `details`: values as a log line has them, "client=10.0.0.9:40312". Call it in an `except` block, from a callback of
    the loop or from a greenlet. Never raises, never waits."""
    global _count
    _count += 1
    try:
        log.exception("internal error where=%s", f"{where} {details}".rstrip())
    except Exception:  # a log that fails must not end what called us
        pass


def count() -> int:
    """Internal errors of this process so far."""
    return _count


def forget() -> None:
    """Start from zero: in a process that was just forked, and when counters are reset."""
    global _count
    _count = 0


def guarded(where: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call` as a callback that never raises Exception: what it raises is recorded, and None returned."""

    @functools.wraps(call)
    def guard(*arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except Exception:
            record(where)
            return None

    return guard


class Attempts:
    """Several steps of which each is to be made, whether or not those before it could be."""

    def __init__(self, where: str) -> None:
        """`where`: as in internal_errors.record."""
        self._where = where
        self._failed: list[str] = []

    def make(self, step: Callable[..., object], *arguments: object) -> None:
        """Call step(*arguments); an exception is recorded."""
        try:
            step(*arguments)
        except Exception as error:
            record(self._where)
            self._failed.append(repr(error))

    def end(self) -> None:
        """Raises StartError if one of the steps could not be made."""
        if self._failed:
            raise StartError(f"internal error: {self._failed[0]}")

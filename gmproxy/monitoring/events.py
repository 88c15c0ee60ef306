"""The latest events of this process: what it has logged, for reports.

A log line is a sentence and then values, `backend ejected server=10.0.0.1:11211 reason=timeout`. The sentence says what happened; the
server, and the pool, stand on their own; the rest is the detail.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

#: Number of events kept.
MAX_EVENTS = 200

#: Seconds within which the same line about the same server counts as the same event.
SAME_WITHIN = 1.0

_VALUE = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\S+)")


class RecentEvents(logging.Handler):
    """Keeps what is logged, from INFO on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = parse_record(record)
        except Exception:  # a line that cannot be formatted is our own fault, not the caller's
            return
        for known in reversed(self._events):
            if event["time"] - known["time"] > SAME_WITHIN:
                break
            if _is_same(known, event):
                known["times"] += 1
                return
        self._events.append(event)

    def as_list(self) -> list[dict[str, Any]]:
        """[{"time", "level", "what", "pool", "server", "detail", "times"}], the oldest first."""
        return [dict(event) for event in self._events]

    def clear(self) -> None:
        """Forget all events: called in a process that was just forked."""
        self._events.clear()


#: Of this process, as there is one log.
RECENT_EVENTS = RecentEvents()


def parse_record(record: logging.LogRecord) -> dict[str, Any]:
    """The event of which `record` is the log line. Raises what formatting the line raises."""
    line = record.getMessage().partition("\n")[0]
    first = _VALUE.search(line)
    what, values = (line, "") if first is None else (line[: first.start()].rstrip(), line[first.start() :])
    server, details = "", []
    for match in _VALUE.finditer(values):
        if match[1] == "server" and not server:
            server = match[2]
        elif match[1] != "pool":
            details.append(match[0])
    return {
        "time": record.created,
        "level": record.levelname.lower(),
        "what": what,
        "pool": getattr(record, "pool", ""),
        "server": server,
        "detail": " ".join(details),
        "times": 1,
    }


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["what"] == other["what"] and one["pool"] == other["pool"] and one["server"] == other["server"]


def merge(lists: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The events of several processes in time order, the newest MAX_EVENTS. What happened to several within SAME_WITHIN seconds is one event,
    with the number of `workers`."""
    merged: list[tuple[dict[str, Any], set[int]]] = []
    for number, event in sorted(
        ((number, event) for number, events in enumerate(lists) for event in events), key=lambda pair: pair[1]["time"]
    ):
        for known, numbers in reversed(merged):
            if event["time"] - known["time"] > SAME_WITHIN:
                merged.append((dict(event), {number}))
                break
            if _is_same(known, event) and number not in numbers:
                numbers.add(number)
                break
        else:
            merged.append((dict(event), {number}))
    return [event | {"workers": len(numbers)} for event, numbers in merged][-MAX_EVENTS:]

"""The latest events of this process: its log lines, for reports.

A log line is the name of an event, followed by fields: `backend ejected server=10.0.0.1:11211 reason=timeout`. An event has the name, the
server and the pool, and as detail all other fields.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

#: Maximum number of events kept.
MAX_EVENTS = 200

#: Seconds within which the same line about the same server counts as the same event.
SAME_WITHIN = 1.0

#: Names of events that may be logged for hours. Each is kept as one event with a counter and its latest time, or it would displace all others:
#: True: one for each server, False: one for the pool.
ONGOING = {
    "admin host refused": False,
    "backend not connected": True,
    "backend overloaded": True,
    "client dropped": False,
    "client turned away": False,
    "connection not accepted": False,
    "slow requests": False,
    "wrong password": False,
}

#: Seconds without such a line after which the next one is a new event.
ONGOING_WITHIN = 600.0

_VALUE = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\S+)")


class RecentEvents(logging.Handler):
    """Keeps the latest lines of level INFO and above, at most MAX_EVENTS."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = parse_record(record)
        except Exception:  # a line that cannot be formatted must not raise in the caller
            return
        for index in range(len(self._events) - 1, -1, -1):
            known = self._events[index]
            if event["what"] not in ONGOING and event["time"] - known["time"] > SAME_WITHIN:
                break
            if not _is_same(known, event):
                continue
            if event["what"] not in ONGOING:
                known["times"] += 1
                return
            del self._events[index]
            event = _combine(known, event)
            break
        self._events.append(event)

    def as_list(self) -> list[dict[str, Any]]:
        """[{"time", "since", "level", "what", "pool", "server", "detail", "times"}], the oldest first. `time` and `since`: unix time of the
        latest and of the first of the `times` lines."""
        return [dict(event) for event in self._events]

    def clear(self) -> None:
        """Remove all events: called in a forked worker, which has copies of the master's."""
        self._events.clear()


#: The events of this process.
RECENT_EVENTS = RecentEvents()


def parse_record(record: logging.LogRecord) -> dict[str, Any]:
    """The event for the log line `record`. Raises what the formatting of the line raises."""
    line = record.getMessage().partition("\n")[0]
    first = _VALUE.search(line)
    what, values = (line, "") if first is None else (line[: first.start()].rstrip(), line[first.start() :])
    server, pool, details = "", getattr(record, "pool", ""), []
    for match in _VALUE.finditer(values):
        if match[1] == "server" and not server:
            server = match[2]
        elif match[1] == "pool":
            pool = pool or match[2]
        else:
            details.append(match[0])
    return {
        "time": record.created,
        "since": record.created,
        "level": record.levelname.lower(),
        "what": what,
        "pool": pool,
        "server": server,
        "detail": " ".join(details),
        "times": 1,
    }


def _is_same(known: dict[str, Any], event: dict[str, Any]) -> bool:
    """True if the later `event` counts as a repetition of `known`."""
    if known["what"] != event["what"] or known["pool"] != event["pool"]:
        return False
    by_server = ONGOING.get(event["what"])
    within = SAME_WITHIN if by_server is None else ONGOING_WITHIN
    return event["time"] - known["time"] <= within and (by_server is False or known["server"] == event["server"])


def _combine(known: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The later `event`, with the times of both."""
    return event | {"since": min(known["since"], event["since"]), "times": known["times"] + event["times"]}


def merge(lists: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The events of several processes in time order, the latest MAX_EVENTS. The same event in several processes within SAME_WITHIN seconds, or
    ONGOING in several, is one event; `workers` is the number of these processes."""
    merged: list[tuple[dict[str, Any], set[int]]] = []  # (event, numbers of the lists that have it)
    for number, event in sorted(
        ((number, event) for number, events in enumerate(lists) for event in events), key=lambda pair: pair[1]["time"]
    ):
        index = _index_of_same(merged, number, event)
        if index is None:
            merged.append((event, {number}))
        elif event["what"] in ONGOING:
            known, numbers = merged.pop(index)
            merged.append((_combine(known, event), {*numbers, number}))
        else:
            merged[index][1].add(number)
    return [event | {"workers": len(numbers)} for event, numbers in merged][-MAX_EVENTS:]


def _index_of_same(merged: Sequence[tuple[dict[str, Any], set[int]]], number: int, event: dict[str, Any]) -> int | None:
    """The index in `merged` of the same event from lists other than `number`, or None."""
    within = ONGOING_WITHIN if event["what"] in ONGOING else SAME_WITHIN
    for index in range(len(merged) - 1, -1, -1):
        known, numbers = merged[index]
        if event["time"] - known["time"] > within:
            return None
        if number not in numbers and _is_same(known, event):
            return index
    return None

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

#: What may be logged for hours is one event, which moves to its latest time and counts: else it would push out all others. Each with True if
#: it is one for each server, and False if it is one for the pool.
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

#: Seconds after which it is another event, if nothing of the kind was logged meanwhile.
ONGOING_WITHIN = 600.0

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
        for place in range(len(self._events) - 1, -1, -1):
            known = self._events[place]
            if event["what"] not in ONGOING and event["time"] - known["time"] > SAME_WITHIN:
                break
            if not _is_same(known, event):
                continue
            if event["what"] not in ONGOING:
                known["times"] += 1
                return
            del self._events[place]
            event = _continued(known, event)
            break
        self._events.append(event)

    def as_list(self) -> list[dict[str, Any]]:
        """[{"time", "since", "level", "what", "pool", "server", "detail", "times"}], the oldest first. `since`: the first of so many `times`."""
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
    """True if `event`, which is later, is not to be another event than `known`."""
    if known["what"] != event["what"] or known["pool"] != event["pool"]:
        return False
    by_server = ONGOING.get(event["what"])
    within = SAME_WITHIN if by_server is None else ONGOING_WITHIN
    return event["time"] - known["time"] <= within and (by_server is False or known["server"] == event["server"])


def _continued(known: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The two as one, of which the latest is shown."""
    return event | {"since": min(known["since"], event["since"]), "times": known["times"] + event["times"]}


def merge(lists: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The events of several processes in time order, the newest MAX_EVENTS. What happened to several within SAME_WITHIN seconds is one event,
    with the number of `workers`; what is ONGOING in several, too."""
    merged: list[tuple[dict[str, Any], set[int]]] = []  # (event, numbers of the lists that have it)
    for number, event in sorted(
        ((number, event) for number, events in enumerate(lists) for event in events), key=lambda pair: pair[1]["time"]
    ):
        place = _place_of_same(merged, number, event)
        if place is None:
            merged.append((event, {number}))
        elif event["what"] in ONGOING:
            known, numbers = merged.pop(place)
            merged.append((_continued(known, event), {*numbers, number}))
        else:
            merged[place][1].add(number)
    return [event | {"workers": len(numbers)} for event, numbers in merged][-MAX_EVENTS:]


def _place_of_same(merged: Sequence[tuple[dict[str, Any], set[int]]], number: int, event: dict[str, Any]) -> int | None:
    """Where in `merged` the same event is that comes from other lists than this `number`, or None."""
    within = ONGOING_WITHIN if event["what"] in ONGOING else SAME_WITHIN
    for place in range(len(merged) - 1, -1, -1):
        known, numbers = merged[place]
        if event["time"] - known["time"] > within:
            return None
        if number not in numbers and _is_same(known, event):
            return place
    return None

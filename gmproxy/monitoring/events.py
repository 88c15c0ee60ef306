"""The latest events of this process: what it has logged, kept to be shown.

A log line is a sentence and then values, `backend ejected server=10.0.0.1:11211 reason=timeout`. The sentence says what happened; the
server, and the pool, stand on their own; the rest is the detail.
"""

import logging
import re
from collections import deque

#: Events that are kept.
KEPT = 200

#: What happens again to the same within so many seconds is the same event.
SAME_WITHIN = 1.0

_VALUE = re.compile(r"(\w+)=('[^']*'|\"[^\"]*\"|\S+)")


class Recent(logging.Handler):
    """Keeps what is logged, from INFO on."""

    def __init__(self):
        super().__init__(logging.INFO)
        self._events = deque(maxlen=KEPT)

    def emit(self, record):
        try:
            event = read(record)
        except Exception:  # a line that cannot be formatted is our own fault, not the caller's
            return
        for known in reversed(self._events):
            if event["time"] - known["time"] > SAME_WITHIN:
                break
            if _is_same(known, event):
                known["times"] += 1
                return
        self._events.append(event)

    def told(self):
        """[{"time", "level", "what", "pool", "server", "detail", "times"}], the oldest first."""
        return [dict(event) for event in self._events]

    def clear(self):
        """A process that was forked has nothing to do with what happened before."""
        self._events.clear()


#: Of this process, as there is one log.
RECENT = Recent()


def read(record):
    """The event that a log record tells of."""
    line = record.getMessage().partition("\n")[0]
    first = _VALUE.search(line)
    what, values = (line, "") if first is None else (line[:first.start()].rstrip(), line[first.start():])
    server, details = "", []
    for match in _VALUE.finditer(values):
        if match[1] == "server" and not server:
            server = match[2]
        elif match[1] != "pool":
            details.append(match[0])
    return {
        "time": record.created, "level": record.levelname.lower(), "what": what, "pool": getattr(record, "pool", ""),
        "server": server, "detail": " ".join(details), "times": 1,
    }


def _is_same(one, other):
    return one["what"] == other["what"] and one["pool"] == other["pool"] and one["server"] == other["server"]


def merge(lists):
    """The events of several processes in time order, the newest KEPT. What happened to several within SAME_WITHIN seconds is one event,
    with the number of `workers`."""
    merged = []
    for number, event in sorted(((number, event) for number, events in enumerate(lists) for event in events), key=lambda pair: pair[1]["time"]):
        for known, numbers in reversed(merged):
            if event["time"] - known["time"] > SAME_WITHIN:
                merged.append((dict(event), {number}))
                break
            if _is_same(known, event) and number not in numbers:
                numbers.add(number)
                break
        else:
            merged.append((dict(event), {number}))
    return [event | {"workers": len(numbers)} for event, numbers in merged][-KEPT:]

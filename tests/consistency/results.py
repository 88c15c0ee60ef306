"""What the clients of a load counted, and the violations with the history of their keys."""

import threading
import time
from collections import Counter, defaultdict
from datetime import datetime

#: The number of violations of each kind that are reported with the history of the key.
REPORTED = 2


class Results:
    """What all clients counted. Any thread may call `add` and `violated`."""

    def __init__(self):
        self.counts = Counter()  # requests; hits and misses; acknowledged writes and increments; lost connections
        self.errors = Counter()  # {reason: SERVER_ERROR replies}
        self.violations = Counter()  # {kind: number}
        self.examples = defaultdict(list)  # {kind: the first violations with the history of their key}
        self.events = []  # (time.monotonic(), what happened)
        self._lock = threading.Lock()

    def happened(self, what):
        """A server or gmproxy fails or recovers: for the report of a violation."""
        self.events.append((time.monotonic(), what))

    def add(self, counts, errors):
        with self._lock:
            self.counts.update(counts)
            self.errors.update(errors)

    def violated(self, kind, history, what):
        with self._lock:
            self.violations[kind] += 1
            if len(self.examples[kind]) < REPORTED:
                self.examples[kind].append(f"{kind}: {history.key.decode()}: {what}\n" + as_text(history, list(self.events)))

    def summary(self):
        errors = ", ".join(f"{reason} {count}" for reason, count in self.errors.most_common()) or "none"
        violations = ", ".join(f"{count} {kind}" for kind, count in self.violations.most_common()) or "none"
        counts = self.counts
        return (
            f"{counts['requests']} requests, {counts['hits']} values found, {counts['misses']} missed; {counts['writes']} writes and "
            f"{counts['increments']} increments acknowledged; errors: {errors}; {counts['connections lost']} connections ended\n"
            f"violations: {violations}"
        )

    def complaint(self):
        """The violations as text; "" if there are none."""
        if not self.violations:
            return ""
        return "\n\n".join([self.summary(), *(example for examples in self.examples.values() for example in examples)])


def as_text(history, events=()):
    """The last operations of `history` and the events of that time, with the times of day of gmproxy's log."""
    operations = list(history.operations)
    start = operations[0].sent if operations else 0.0
    moments = [(one.sent, f"to {clock(one.ended)}  {one.who}: {one.what} -> {one.reply}") for one in operations]
    moments += [(at, f"               *** {what}") for at, what in events if at >= start]
    return "\n".join(f"  {clock(at)} {what}" for at, what in sorted(moments))


def clock(moment):
    """The time of day at `moment` of time.monotonic()."""
    return datetime.fromtimestamp(moment + time.time() - time.monotonic()).strftime("%H:%M:%S.%f")[:-3]

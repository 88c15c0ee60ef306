"""The results of a run, in words and as a table."""

from bisect import bisect_left

from faults.tally import VIOLATIONS

#: The latency before and after a fault is measured over this time, seconds.
AROUND = 1.0

MIB = 1024 * 1024


def p99(waits):
    """The 99th percentile of `waits`, seconds; None if there are none."""
    return sorted(waits)[int(len(waits) * 0.99)] if waits else None


class Latency:
    """The latency before, during and after each kind of fault. A request counts as during a fault if it waited for its reply at any time
    of the fault."""

    def __init__(self, tally, events):
        self._requests = sorted(zip(tally.ends, tally.waits))
        self._events = sorted(events, key=lambda event: event.begun)
        self._longest = max(tally.waits, default=0)

    def rows(self):
        """(fault, times, p99 before, p99 during, longest during, p99 after) for each kind of fault; seconds."""
        for name in dict.fromkeys(event.fault for event in self._events):
            events = [event for event in self._events if event.fault == name]
            during = [wait for event in events for wait in self._on_their_way(event.begun, event.ended)]
            yield (
                name,
                len(events),
                p99([wait for event in events for wait in self._within(event.begun - AROUND, event.begun)]),
                p99(during),
                max(during, default=None),
                p99([wait for event in events for wait in self._within(event.ended, event.ended + AROUND)]),
            )

    def _on_their_way(self, start, stop):
        return [wait for end, wait in self._ended(start, stop + self._longest) if end - wait <= stop]

    def _within(self, start, stop):
        return [wait for end, wait in self._ended(start, stop) if end - wait >= start]

    def _ended(self, start, stop):
        return self._requests[bisect_left(self._requests, (start,)) : bisect_left(self._requests, (stop,))]


def table(title, seconds, tally, events, before, after, paused=0.0, excused=frozenset()):
    """The whole table, as text. `before` and `after` are the proxy's Footprint at the start and at the end; `paused`: seconds of pauses (pauses.py);
    `excused` as of `complaint`."""
    errors = ", ".join(f"{reason} {count}" for reason, count in tally.errors.most_common()) or "none"
    lines = [
        "",
        f"== {title}",
        "",
        f"{tally.requests} requests in {seconds:.0f} s; {tally.hits} values found, {tally.misses} missed; errors: {errors}",
        f"{tally.cut_off} connections ended with their worker; pauses of {paused:.1f} s; the slowest of the late requests took "
        f"{tally.longest:.3f} s beside them",
        "",
        *(f"{kind + ':':35}{tally.violations[kind]}{' (damaged on purpose)' if kind in excused else ''}" for kind in VIOLATIONS),
        "",
        f"{'fault':15}{'times':>6}{'p99 before':>14}{'p99 during':>14}{'longest':>12}{'p99 after':>14}",
    ]
    for name, times, before_it, during, longest, after_it in Latency(tally, events).rows():
        lines.append(f"{name:15}{times:6}{_ms(before_it):>14}{_ms(during):>14}{_ms(longest):>12}{_ms(after_it):>14}")
    lines += [
        "",
        f"{'the proxy':12}{'links':>10}{'unfinished':>14}{'open files':>14}{'memory':>12}",
        f"{'at first':12}{before.links:10}{before.unfinished:14}{before.descriptors:14}{before.memory / MIB:8.1f} MiB",
        f"{'at the end':12}{after.links:10}{after.unfinished:14}{after.descriptors:14}{after.memory / MIB:8.1f} MiB",
        "",
    ]
    return "\n".join(lines)


def _ms(seconds):
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def complaint(tally, events, excused=frozenset()):
    """The violations as text, with the history of their keys; "" if there are none. `excused`: kinds that are allowed (scenario.py)."""
    kinds = [kind for kind in VIOLATIONS if tally.violations[kind] and kind not in excused]
    if not kinds:
        return ""
    words = [", ".join(f"{kind}: {tally.violations[kind]}" for kind in kinds)]
    words += [history(example, events) for kind in kinds for example in tally.examples[kind]]
    return "\n\n".join(words)


def history(violation, events):
    """The operations on the key of `violation` and the faults of that time, in the order they began."""
    start = violation.operations[0].sent if violation.operations else violation.at - AROUND
    moments = [
        (operation.sent, f"{operation.who}: {operation.what} -> {operation.answer} ({_ms(operation.answered - operation.sent)})")
        for operation in violation.operations
    ]
    for event in events:
        if event.ended >= start and event.begun <= violation.at:
            moments.append((event.begun, f"          *** {event.node} {event.fault}"))
            moments.append((event.ended, f"          *** {event.node} no longer {event.fault}"))
    key = f"{violation.ledger.key.decode()}: " if violation.ledger is not None else ""
    lines = [f"{violation.kind}: {key}{violation.what}"]
    lines += [f"  {at - start:8.3f} s  {words}" for at, words in sorted(moments)]
    return "\n".join(lines)

"""From the counters of a report, or of two, to what they say. docs/monitoring.md tells what a report is."""

from typing import NamedTuple


class Counted(NamedTuple):
    """What servers have counted; `buckets`: of the latency histogram."""

    requests: int
    errors: int
    keys: int
    hits: int
    sent: int
    received: int
    buckets: tuple

    @classmethod
    def by(cls, backends):
        """By all of `backends` of a report together."""
        return cls(
            sum(sum(backend["requests"].values()) for backend in backends),
            sum(sum(backend["errors"].values()) for backend in backends),
            sum(backend["keys"] for backend in backends),
            sum(backend["hits"] for backend in backends),
            sum(backend["bytes_sent"] for backend in backends),
            sum(backend["bytes_received"] for backend in backends),
            tuple(map(sum, zip(*(backend["latency"]["buckets"] for backend in backends)))),
        )

    def since(self, before):
        """What was counted since then, or None if the counters began anew."""
        buckets = tuple(now - then for now, then in zip(self.buckets, before.buckets))
        counts = [now - then for now, then in zip(self[:-1], before[:-1])]
        return Counted(*counts, buckets) if min(counts) >= 0 else None

    @property
    def hit_ratio(self):
        return self.hits / self.keys if self.keys else None


def quantile(bounds, buckets, part):
    """Seconds within which this `part` of all answers came, as if they were spread evenly within a bucket; None if there are none.
    What lies beyond the last bound counts as that."""
    total = sum(buckets)
    if not total:
        return None
    below, least = 0, 0.0
    for bound, count in zip(bounds, buckets):
        if count and below + count >= part * total:
            return least + (bound - least) * (part * total - below) / count
        below += count
        least = bound
    return bounds[-1]


def primaries(pool):
    return [backend for backend in pool["backends"] if backend["role"] != "backup"]


def is_down(backend):
    return backend["state"] in ("ejected", "probing")

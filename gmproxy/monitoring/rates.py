"""Sums, rates and quantiles of the counters in one report, or between two. docs/monitoring.md describes the report."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class ServerCounters(NamedTuple):
    """Counters of one or several servers. `sent`, `received`: bytes; `buckets`: replies in each bucket of the latency histogram."""

    requests: int
    errors: int
    keys: int
    hits: int
    sent: int
    received: int
    buckets: tuple[int, ...]

    @classmethod
    def total(cls, backends: Sequence[dict[str, Any]]) -> "ServerCounters":
        """The sums of the counters of `backends`, entries of a report."""
        return cls(
            sum(sum(backend["requests"].values()) for backend in backends),
            sum(sum(backend["errors"].values()) for backend in backends),
            sum(backend["keys"] for backend in backends),
            sum(backend["hits"] for backend in backends),
            sum(backend["bytes_sent"] for backend in backends),
            sum(backend["bytes_received"] for backend in backends),
            tuple(map(sum, zip(*(backend["latency"]["buckets"] for backend in backends)))),
        )

    def since(self, before: "ServerCounters") -> "ServerCounters | None":
        """The increase since `before`, or None if a counter was reset in between."""
        counters = ServerCounters(
            self.requests - before.requests,
            self.errors - before.errors,
            self.keys - before.keys,
            self.hits - before.hits,
            self.sent - before.sent,
            self.received - before.received,
            tuple(now - then for now, then in zip(self.buckets, before.buckets)),
        )
        return counters if min(counters[:-1]) >= 0 else None

    @property
    def hit_ratio(self) -> float | None:
        """Part of the requested keys that were found, 0 to 1; None if no keys were requested."""
        return self.hits / self.keys if self.keys else None


def quantile(bounds: Sequence[float], buckets: Sequence[int], part: float) -> float | None:
    """Seconds within which this `part` (0 to 1) of all replies arrived, or None without replies. Interpolates within a bucket; replies beyond the
    last bound count as that bound."""
    total = sum(buckets)
    if not total:
        return None
    below, lower_bound = 0, 0.0
    for bound, count in zip(bounds, buckets):
        if count and below + count >= part * total:
            return lower_bound + (bound - lower_bound) * (part * total - below) / count
        below += count
        lower_bound = bound
    return bounds[-1]


def primaries(pool: dict[str, Any]) -> list[dict[str, Any]]:
    """The primaries among the backends of a pool in a report."""
    return [backend for backend in pool["backends"] if backend["role"] == "primary"]


def is_ejected(backend: dict[str, Any]) -> bool:
    """True if no requests are sent to the `backend` of a report, because it is ejected or probing; False if its set is switched off."""
    return is_enabled(backend) and backend["state"] in ("ejected", "probing")


def is_enabled(backend: dict[str, Any]) -> bool:
    """False if an operator has switched off the set of the `backend` of a report."""
    enabled: bool = backend.get("enabled", True)  # version 0.1.0 does not send it
    return enabled


def rates_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The rates between two reports, as an object for JSON. A rate that is not known is None."""
    elapsed = after["time"] - before["time"]
    if sorted(before["workers"]) != sorted(after["workers"]):  # a worker that was started, or did not reply, changes the sums
        before = {"pools": {}}
    pools = {}
    for name, pool in after["pools"].items():
        then = before["pools"].get(name, {"backends": []})
        known = {(backend["role"], backend["label"]): backend for backend in then["backends"]}
        pools[name] = {
            "clients": pool["clients"]["current"],
            **_rates(then["backends"], pool["backends"], elapsed, after["latency_bounds"]),
            "hit_ratio": _rates(primaries(then), primaries(pool), elapsed, after["latency_bounds"])["hit_ratio"],
            "backends": [
                {
                    name: backend[name]
                    for name in (
                        "label",
                        "name",
                        "address",
                        "weight",
                        "role",
                        "set",
                        "zone",
                        "enabled",
                        "state",
                        "by_hand",
                        "links",
                        "in_flight",
                    )
                    if name in backend
                }
                | _rates(
                    [known[key]] if (key := (backend["role"], backend["label"])) in known else [],
                    [backend],
                    elapsed,
                    after["latency_bounds"],
                )
                for backend in pool["backends"]
            ],
        }
    return {"time": after["time"], "seconds": elapsed, "pools": pools}


def _rates(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], elapsed: float, bounds: Sequence[float]
) -> dict[str, float | None]:
    """The rates of several backends together; None where they are not known, for example without backends `before`."""
    counters = ServerCounters.total(after).since(ServerCounters.total(before)) if before and after and elapsed > 0 else None
    names = ("requests", "errors", "sent", "received")
    if counters is None:
        return dict.fromkeys((*(f"{name}_per_second" for name in names), "hit_ratio", "p50", "p99"))
    rates = {f"{name}_per_second": getattr(counters, name) / elapsed for name in names}
    return rates | {
        "hit_ratio": counters.hit_ratio,
        "p50": quantile(bounds, counters.buckets, 0.5),
        "p99": quantile(bounds, counters.buckets, 0.99),
    }

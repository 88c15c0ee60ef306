"""The rates of the last 15 minutes, for the plots of the status page when it is opened, or connects again.

Points are kept as JSON, so that a request for them costs no more than sending them.
"""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from gmproxy.monitoring.interfaces import Report
from gmproxy.monitoring.rates import rates_between

#: Seconds between two points, and from the first to the last point.
INTERVAL = 10.0
SPAN = 900.0

#: The values of a server in a point, in this order: name in docs/monitoring.md -> name in `rates_between`.
FIELDS = {
    "requests": "requests_per_second",
    "errors": "errors_per_second",
    "sent": "sent_per_second",
    "received": "received_per_second",
    "hits": "hit_ratio",
    "p50": "p50",
    "p99": "p99",
}

#: ID for all servers of a pool together.
ALL = ""


class History:
    """The latest points, at most SPAN / INTERVAL of them: about 100 bytes for each server and point."""

    def __init__(self) -> None:
        self._before: Report | None = None
        self._points: deque[bytes] = deque(maxlen=round(SPAN / INTERVAL))

    def add_report(self, report: Report) -> None:
        """Add the point between the previous report and this one. Does not wait."""
        before, self._before = self._before, report
        if before is not None and report["time"] > before["time"]:
            self._points.append(json.dumps(_point(before, report), separators=(",", ":")).encode())

    def as_json(self) -> bytes:
        """{"interval", "span", "fields", "points"}; a point is {"time", "pools": {pool: {server: [value, ...] or None}}}"""
        head = json.dumps({"interval": INTERVAL, "span": SPAN, "fields": list(FIELDS)})
        return head[:-1].encode() + b', "points": [' + b",".join(self._points) + b"]}"


def _point(before: Report, report: Report) -> dict[str, Any]:
    pools = {}
    for name, pool in rates_between(before, report)["pools"].items():
        servers = {ALL: _values(pool)}
        servers.update(zip(server_ids(pool["backends"]), map(_values, pool["backends"])))
        pools[name] = servers
    return {"time": round(report["time"], 1), "pools": pools}


def _values(rates: dict[str, Any]) -> list[float | None] | None:
    """The values of FIELDS with four significant digits; None if all are unknown."""
    values = [rates[field] for field in FIELDS.values()]
    if all(value is None for value in values):
        return None
    return [None if value is None else float(f"{value:.4g}") for value in values]


def server_ids(backends: Sequence[dict[str, Any]]) -> list[str]:
    """An ID for each server of a pool in a report, the same as in page.html. A server that is listed twice has two."""
    ids: dict[str, None] = {}
    for backend in backends:
        name = f"{backend['role']} {backend['label']}"
        while name in ids:
            name += "'"
        ids[name] = None
    return list(ids)

"""The report in the text format of Prometheus.

METRICS has every metric; tests compare it with docs/monitoring.md, the dashboard and the alert rules.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from gmproxy.monitoring.interfaces import Report
from gmproxy.monitoring.report import JOURNAL_STATES, STATES_BY_SEVERITY

#: Content type of what `render` returns.
CONTENT_TYPE = CONTENT_TYPE_LATEST

_POOL = ("pool",)
_BACKEND = ("pool", "backend", "role")
_SET = ("pool", "role", "set", "zone")

#: Name without gmproxy_, and without _total of a counter -> (class, labels, description).
METRICS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "info": (GaugeMetricFamily, ("version", "build"), "Version and build of gmproxy; the value is always 1"),
    "start_time_seconds": (GaugeMetricFamily, (), "Unix time at which the service started"),
    "workers": (GaugeMetricFamily, (), "Workers that reply"),
    "workers_wanted": (GaugeMetricFamily, (), "Workers that the configuration sets"),
    "draining": (
        GaugeMetricFamily,
        (),
        "1 while draining: no new clients are accepted, and each client is closed after its next reply; else 0",
    ),
    "loop_lag_seconds": (GaugeMetricFamily, (), "Longest delay of the event loop in the last second, in the slowest worker"),
    "process_cpu_seconds": (CounterMetricFamily, ("mode",), "CPU time of all workers"),
    "process_resident_bytes": (GaugeMetricFamily, (), "Resident memory of all workers; shared memory counts for each"),
    "process_open_files": (GaugeMetricFamily, (), "Open file descriptors of all workers"),
    "internal_errors": (CounterMetricFamily, (), "Internal errors: exceptions in gmproxy's own code, each logged with its traceback"),
    "fills_enabled": (
        GaugeMetricFamily,
        (),
        "0 after the operator command `fills off`: no items are copied from backups to primaries; else 1",
    ),
    "journal_state": (
        GaugeMetricFamily,
        ("state",),
        "1 for the current state of the journal of pending invalidations, 0 for its other states",
    ),
    "journal_errors": (CounterMetricFamily, (), "Writes to the journal of pending invalidations that failed"),
    "clients": (GaugeMetricFamily, _POOL, "Connected clients"),
    "clients_asleep": (
        GaugeMetricFamily,
        _POOL,
        "Connected clients that are idle: they have sent nothing yet, or nothing for hibernate_after, and need little memory",
    ),
    "clients_limit": (GaugeMetricFamily, _POOL, "Maximum number of connected clients"),
    "clients_accepted": (CounterMetricFamily, _POOL, "Accepted client connections, including rejected ones"),
    "clients_rejected": (
        CounterMetricFamily,
        _POOL,
        "Client connections closed at once because the maximum number of clients was connected",
    ),
    "clients_auth_errors": (CounterMetricFamily, _POOL, "Client logins with a wrong password"),
    "clients_dropped": (
        CounterMetricFamily,
        _POOL,
        "Clients closed because too many bytes were held for them, or for all clients together",
    ),
    "clients_held_bytes": (
        GaugeMetricFamily,
        _POOL,
        "Bytes held for clients: incomplete requests, and replies that they have not received yet",
    ),
    "clients_read_bytes": (CounterMetricFamily, _POOL, "Bytes received from clients"),
    "clients_written_bytes": (CounterMetricFamily, _POOL, "Bytes sent to clients"),
    "get_errors_as_misses": (
        CounterMetricFamily,
        _POOL,
        "Reads that failed and were returned to the client as misses (on_get_error = miss)",
    ),
    "backup_writes_lost": (CounterMetricFamily, _POOL, "Copies of writes that a server of the backup or of a replica did not receive"),
    "backup_writes_differed": (CounterMetricFamily, _POOL, "Writes to which the servers of the key in different sets replied differently"),
    "conflicting_changes": (
        CounterMetricFamily,
        _POOL,
        "Keys deleted on the servers with copies because several workers changed them at the same time",
    ),
    "verify_compared_keys": (CounterMetricFamily, _POOL, "Keys that the operator command `verify` found in both sets that it compared"),
    "verify_different_keys": (CounterMetricFamily, _POOL, "Keys of these that had different values in the two sets"),
    "flushes": (CounterMetricFamily, _POOL, "flush_all commands from clients"),
    "set_enabled": (
        GaugeMetricFamily,
        _SET,
        "0 while a set of servers is switched off by the operator command `replica`, 1 while it is used. The servers of a set have the same role",
    ),
    "backend_up": (GaugeMetricFamily, _BACKEND, "1 while requests are sent to the server, 0 while it is ejected or probing"),
    "backend_state": (GaugeMetricFamily, (*_BACKEND, "state"), "1 for the current state of the server, 0 for its other states"),
    "backend_key_share": (GaugeMetricFamily, _BACKEND, "Part of all keys that the server has, from 0 to 1"),
    "backend_links": (GaugeMetricFamily, _BACKEND, "Open connections to the server"),
    "backend_in_flight": (GaugeMetricFamily, _BACKEND, "Requests that wait for a reply from the server"),
    "backend_backlog_bytes": (GaugeMetricFamily, _BACKEND, "Bytes that wait to be sent to the server"),
    "backend_requests": (CounterMetricFamily, (*_BACKEND, "command"), "Requests to which the server replied"),
    "backend_errors": (CounterMetricFamily, (*_BACKEND, "reason"), "Requests that failed without a reply from the server"),
    "backend_keys": (CounterMetricFamily, _BACKEND, "Keys requested from the server by reads"),
    "backend_hits": (CounterMetricFamily, _BACKEND, "Keys that reads found on the server"),
    "backend_misses": (CounterMetricFamily, _BACKEND, "Keys that reads did not find on the server"),
    "backend_refills": (CounterMetricFamily, _BACKEND, "Items copied to the server from another set, such as the backup (fills)"),
    "backend_refills_undone": (
        CounterMetricFamily,
        _BACKEND,
        "Items of these that were deleted again because the other set no longer had the value",
    ),
    "backend_ejections": (CounterMetricFamily, _BACKEND, "Ejections of the server"),
    "backend_journal_keys": (GaugeMetricFamily, _BACKEND, "Pending invalidations: keys to delete on the server because it missed writes"),
    "backend_journal_age_seconds": (
        GaugeMetricFamily,
        _BACKEND,
        "Time since when there have been pending invalidations of the server without interruption; 0 if there are none",
    ),
    "backend_journal_deleted": (CounterMetricFamily, _BACKEND, "Keys deleted on the server because it missed writes"),
    "backend_journal_flushes": (
        CounterMetricFamily,
        _BACKEND,
        "Flushes of the server because it missed writes to more than journal_size keys",
    ),
    "backend_sent_bytes": (CounterMetricFamily, _BACKEND, "Bytes sent to the server"),
    "backend_received_bytes": (CounterMetricFamily, _BACKEND, "Bytes received from the server"),
    "backend_latency_seconds": (HistogramMetricFamily, _BACKEND, "Time from sending a request to the server to its reply"),
}

#: Metric -> field of the report with its value.
_OF_CLIENTS = {
    "clients": "current",
    "clients_asleep": "asleep",
    "clients_limit": "limit",
    "clients_accepted": "accepted",
    "clients_rejected": "rejected",
    "clients_auth_errors": "auth_errors",
    "clients_dropped": "dropped",
    "clients_held_bytes": "held",
    "clients_read_bytes": "bytes_read",
    "clients_written_bytes": "bytes_written",
}
_OF_POOL = {
    "get_errors_as_misses": "misses_for_errors",
    "backup_writes_lost": "backup_writes_lost",
    "backup_writes_differed": "backup_writes_differed",
    "conflicting_changes": "conflicting_changes",
    "verify_compared_keys": "verify_compared",
    "verify_different_keys": "verify_different",
    "flushes": "flushes",
}
_OF_BACKEND = {
    "backend_key_share": "share",
    "backend_links": "links",
    "backend_in_flight": "in_flight",
    "backend_backlog_bytes": "backlog",
    "backend_keys": "keys",
    "backend_hits": "hits",
    "backend_refills": "refills",
    "backend_refills_undone": "refills_undone",
    "backend_ejections": "ejections",
    "backend_journal_keys": "journal",
    "backend_journal_age_seconds": "journal_age",
    "backend_journal_deleted": "journal_deleted",
    "backend_journal_flushes": "journal_flushes",
    "backend_sent_bytes": "bytes_sent",
    "backend_received_bytes": "bytes_received",
}


def render(report: Report, workers: int) -> bytes:
    """The metrics, of CONTENT_TYPE. `workers`: their configured number. Loop callback or greenlet."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report, workers))
    return generate_latest(registry)


class _Collector:
    def __init__(self, report: Report, workers: int) -> None:
        self._report = report
        self._workers = workers
        self._families: dict[str, Any] = {
            name: kind(f"gmproxy_{name}", sentence, labels=labels) for name, (kind, labels, sentence) in METRICS.items()
        }

    def collect(self) -> Iterable[Metric]:
        report = self._report
        process = report["process"]
        self._add_sample("info", (report["version"], report["build"]), 1)
        self._add_sample("start_time_seconds", (), report["started"])
        self._add_sample("workers", (), len(report["workers"]))
        self._add_sample("workers_wanted", (), self._workers)
        self._add_sample("draining", (), int(report["draining"]))
        self._add_sample("fills_enabled", (), int(report["fills_enabled"]))
        for state in JOURNAL_STATES:
            self._add_sample("journal_state", (state,), int(report["journal"] == state))
        self._add_sample("journal_errors", (), process["journal_errors"])
        self._add_sample("loop_lag_seconds", (), report["loop_lag"])
        self._add_sample("process_cpu_seconds", ("user",), process["cpu_user"])
        self._add_sample("process_cpu_seconds", ("system",), process["cpu_system"])
        self._add_sample("process_resident_bytes", (), process["resident"])
        self._add_sample("process_open_files", (), process["open_files"])
        self._add_sample("internal_errors", (), process["internal_errors"])
        for title, pool in report["pools"].items():
            self._add_pool(title, pool)
        return self._families.values()

    def _add_sample(self, name: str, labels: Sequence[str], value: float) -> None:
        self._families[name].add_metric(labels, value)

    def _add_pool(self, title: str, pool: dict[str, Any]) -> None:
        for name, field in _OF_CLIENTS.items():
            self._add_sample(name, (title,), pool["clients"][field])
        for name, field in _OF_POOL.items():
            self._add_sample(name, (title,), pool[field])
        enabled = {(title, one["role"], one["set"], one["zone"]): one["enabled"] for one in pool["backends"]}
        for of_set, is_enabled in enabled.items():
            self._add_sample("set_enabled", of_set, int(is_enabled))
        seen: set[tuple[str, str, str]] = set()
        for backend in pool["backends"]:
            labels = title, backend["label"], backend["role"]
            if labels not in seen:  # a pool may list a server twice; Prometheus refuses two samples with the same labels
                seen.add(labels)
                self._add_backend(labels, backend)

    def _add_backend(self, labels: tuple[str, str, str], backend: dict[str, Any]) -> None:
        for name, field in _OF_BACKEND.items():
            self._add_sample(name, labels, backend[field])
        self._add_sample("backend_misses", labels, backend["keys"] - backend["hits"])
        self._add_sample("backend_up", labels, int(backend["state"] not in ("ejected", "probing")))
        for state in STATES_BY_SEVERITY:
            self._add_sample("backend_state", (*labels, state), int(backend["state"] == state))
        for command, count in backend["requests"].items():
            self._add_sample("backend_requests", (*labels, command), count)
        for reason, count in backend["errors"].items():
            self._add_sample("backend_errors", (*labels, reason), count)
        self._families["backend_latency_seconds"].add_metric(
            labels, self._cumulative_buckets(backend["latency"]), backend["latency"]["sum"]
        )

    def _cumulative_buckets(self, latency: dict[str, Any]) -> list[tuple[str, int]]:
        """[(upper bound, number of replies within it)], as in Prometheus: each bucket includes those before it."""
        bounds = [*map(str, self._report["latency_bounds"]), "+Inf"]
        total = 0
        buckets = []
        for bound, count in zip(bounds, latency["buckets"]):
            total += count
            buckets.append((bound, total))
        return buckets

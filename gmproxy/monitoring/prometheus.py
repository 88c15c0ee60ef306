"""The report in the text format of Prometheus.

One table has every name with its sentence; a test holds docs/monitoring.md, the dashboard and the alert rules against it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from gmproxy.monitoring.interfaces import Report
from gmproxy.monitoring.report import STATES_BY_SEVERITY

#: Of what `render` returns.
CONTENT_TYPE = CONTENT_TYPE_LATEST

_POOL = ("pool",)
_BACKEND = ("pool", "backend", "role")

#: name without gmproxy_ -> (class, labels, sentence). Counters get _total.
METRICS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "info": (GaugeMetricFamily, ("version", "build"), "Always 1"),
    "start_time_seconds": (GaugeMetricFamily, (), "When the service was started, unix time"),
    "workers": (GaugeMetricFamily, (), "Workers that answer"),
    "workers_wanted": (GaugeMetricFamily, (), "Workers that there should be"),
    "draining": (GaugeMetricFamily, (), "1 while clients are let go and nobody is let in"),
    "loop_lag_seconds": (GaugeMetricFamily, (), "How late the loop of the slowest worker was at worst in the last second"),
    "process_cpu_seconds": (CounterMetricFamily, ("mode",), "CPU time of all workers"),
    "process_resident_bytes": (GaugeMetricFamily, (), "Memory of all workers; what they share counts for each"),
    "process_open_files": (GaugeMetricFamily, (), "Open files and sockets of all workers"),
    "internal_errors": (CounterMetricFamily, (), "Exceptions in gmproxy's own code; each is in the log with its traceback"),
    "clients": (GaugeMetricFamily, _POOL, "Clients that are connected"),
    "clients_asleep": (
        GaugeMetricFamily,
        _POOL,
        "Of these, who has not spoken yet, or has been silent for long, and takes next to no memory",
    ),
    "clients_limit": (GaugeMetricFamily, _POOL, "Clients that may be connected"),
    "clients_accepted": (CounterMetricFamily, _POOL, "Clients that have connected"),
    "clients_rejected": (CounterMetricFamily, _POOL, "Clients turned away because there were too many"),
    "clients_auth_errors": (CounterMetricFamily, _POOL, "Logins with a wrong password"),
    "clients_dropped": (CounterMetricFamily, _POOL, "Clients closed because too many bytes waited for all of them together"),
    "clients_held_bytes": (GaugeMetricFamily, _POOL, "Requests half sent, and answers not taken"),
    "clients_read_bytes": (CounterMetricFamily, _POOL, "What clients have said"),
    "clients_written_bytes": (CounterMetricFamily, _POOL, "What clients were told"),
    "get_errors_as_misses": (CounterMetricFamily, _POOL, "Reads that no server could answer and that the client got as a miss"),
    "backup_writes_lost": (CounterMetricFamily, _POOL, "Changes that did not reach a backup"),
    "backup_writes_differed": (CounterMetricFamily, _POOL, "Changes that a backup answered otherwise than the primary"),
    "flushes": (CounterMetricFamily, _POOL, "flush_all of clients"),
    "backend_up": (GaugeMetricFamily, _BACKEND, "1 while the server is used, 0 while it is ejected"),
    "backend_state": (GaugeMetricFamily, (*_BACKEND, "state"), "1 for the state that the server is in"),
    "backend_key_share": (GaugeMetricFamily, _BACKEND, "Part of all keys that the server has"),
    "backend_links": (GaugeMetricFamily, _BACKEND, "Open connections"),
    "backend_in_flight": (GaugeMetricFamily, _BACKEND, "Requests that wait for an answer"),
    "backend_backlog_bytes": (GaugeMetricFamily, _BACKEND, "Bytes that the kernel has not taken"),
    "backend_requests": (CounterMetricFamily, (*_BACKEND, "command"), "Answered requests"),
    "backend_errors": (CounterMetricFamily, (*_BACKEND, "reason"), "Requests that the server did not answer"),
    "backend_keys": (CounterMetricFamily, _BACKEND, "Keys that were asked for"),
    "backend_hits": (CounterMetricFamily, _BACKEND, "Keys that were found"),
    "backend_misses": (CounterMetricFamily, _BACKEND, "Keys that were not found"),
    "backend_refills": (CounterMetricFamily, _BACKEND, "Values that it got again from a backup"),
    "backend_ejections": (CounterMetricFamily, _BACKEND, "Times that it was ejected"),
    "backend_journal_keys": (GaugeMetricFamily, _BACKEND, "Keys that it has still to forget"),
    "backend_journal_deleted": (CounterMetricFamily, _BACKEND, "Keys deleted on it because it had missed their changes"),
    "backend_journal_flushes": (CounterMetricFamily, _BACKEND, "Times that it was flushed because it had missed too much"),
    "backend_sent_bytes": (CounterMetricFamily, _BACKEND, "Bytes sent to it"),
    "backend_received_bytes": (CounterMetricFamily, _BACKEND, "Bytes that came from it"),
    "backend_latency_seconds": (HistogramMetricFamily, _BACKEND, "From the send of a request to its answer"),
}

#: metric -> field of the report, where the value is taken as it is.
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
    "backend_ejections": "ejections",
    "backend_journal_keys": "journal",
    "backend_journal_deleted": "journal_deleted",
    "backend_journal_flushes": "journal_flushes",
    "backend_sent_bytes": "bytes_sent",
    "backend_received_bytes": "bytes_received",
}


def render(report: Report, workers: int) -> bytes:
    """Text of CONTENT_TYPE. `workers`: how many there should be."""
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
        seen: set[tuple[str, str, str]] = set()
        for backend in pool["backends"]:
            labels = title, backend["label"], backend["role"]
            if labels not in seen:  # a server may stand in a list twice; it cannot in Prometheus
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
        """As Prometheus wants them: each with those before it."""
        bounds = [*map(str, self._report["latency_bounds"]), "+Inf"]
        total = 0
        buckets = []
        for bound, count in zip(bounds, latency["buckets"]):
            total += count
            buckets.append((bound, total))
        return buckets

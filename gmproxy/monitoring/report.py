"""What a process of the service has counted and measured, as one JSON object; and the same of all its processes together.

docs/monitoring.md explains every field. Times are seconds, sizes bytes. Counters of several workers add up; a state is the worst
of those that the workers see, since each of them has links of its own.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gmproxy import __version__, internal_errors
from gmproxy.backend.health import EJECTED, FAILING, PROBING, UP, WARMING
from gmproxy.backend.latency import BOUNDS
from gmproxy.compiled import BUILD
from gmproxy.config.settings import SETTINGS, render
from gmproxy.monitoring import events
from gmproxy.monitoring.interfaces import MonitoredPool, MonitoredWorker, Report

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend

OPEN_FILES_OF = "/proc/self/fd"

#: The worst last.
STATES_BY_SEVERITY = (UP, WARMING, FAILING, PROBING, EJECTED)

#: What of a backend is a sum over the workers; what of that is no counter.
GAUGES = ("links", "in_flight", "backlog", "unsent", "bytes_waiting", "journal")
SUMS = (
    *GAUGES,
    "connects",
    "keys",
    "hits",
    "refills",
    "failures",
    "ejections",
    "journal_deleted",
    "journal_flushes",
    "bytes_sent",
    "bytes_received",
)


#: Seconds between two listings of this process's open files: with 50,000 of them that takes 25 ms.
LISTED_EVERY = 10.0

# -- of one process


class OpenFiles:
    """How many files and sockets this process has open. `clock()` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listed_at = -LISTED_EVERY
        self._listed = 0

    def count(self) -> int:
        """From Linux 6.2 on as it is now, and that costs one system call. Older kernels must be asked for a list: the count is kept for
        LISTED_EVERY seconds. May be called from a loop callback."""
        size = os.stat(OPEN_FILES_OF).st_size
        if size:
            return size
        now = self._clock()
        if now - self._listed_at >= LISTED_EVERY:
            self._listed_at = now
            self._listed = len(os.listdir(OPEN_FILES_OF))
        return self._listed


OPEN_FILES = OpenFiles()


def worker_report(worker: MonitoredWorker, now: float) -> Report:
    """The report of one worker. `now`: its time in seconds, by which the health of servers is judged. Never waits."""
    return {
        "pid": os.getpid(),
        "version": __version__,
        "build": BUILD,
        "workers": [os.getpid()],
        "started": time.time() - (time.monotonic() - worker.context.started_at),
        "time": time.time(),
        "process": _process_report(),
        "loop_lag": round(worker.lag.seconds, 6),
        "draining": worker.draining,
        "pools": {pool.title: _pool_report(pool, now) for pool in worker.pools.values()},
        "latency_bounds": list(BOUNDS),
        "events": events.merge([events.RECENT_EVENTS.as_list()]),
    }


def _process_report() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "cpu_user": usage.ru_utime,
        "cpu_system": usage.ru_stime,
        "resident": pages * resource.getpagesize(),
        "open_files": OPEN_FILES.count(),
        "internal_errors": internal_errors.count(),
    }


def _pool_report(pool: MonitoredPool, now: float) -> dict[str, Any]:
    context, router = pool.context, pool.router
    bytes_read, bytes_written = context.clients.traffic()
    shares = pool.key_shares()
    return {
        "clients": {
            "current": len(context.clients),
            "asleep": context.clients.idle(),
            "accepted": context.connections,
            "rejected": context.rejected,
            "dropped": context.dropped,
            "limit": context.max_clients,
            "held": context.held,
            "auth_errors": context.auth_errors,
            "bytes_read": bytes_read,
            "bytes_written": bytes_written,
        },
        "misses_for_errors": router.counters.misses_for_errors,
        "backup_writes_lost": router.counters.backup_writes_lost,
        "backup_writes_differed": router.counters.backup_writes_differed,
        "flushes": context.flushes,
        "fragments": router.counters.fragments,
        "options": {name: render(setting, getattr(pool.config, name)) for name, setting in SETTINGS.items()},
        "backends": [_backend_report(pool, backend, "primary", share, now) for backend, share in zip(router.backends, shares)]
        + [_backend_report(pool, backend, "backup", 0.0, now) for backend in router.backups],
    }


def _backend_report(pool: MonitoredPool, backend: "Backend", role: str, share: float, now: float) -> dict[str, Any]:
    server, health, meter, counters = backend.server, backend.health, backend.meter, backend.counters
    buckets = [0] * (len(BOUNDS) + 1) if meter is None else meter.buckets()
    connections = [link for link in backend.connections if link is not None]
    queues = [link.queues() for link in connections]
    state, since = pool.state(backend, now)
    identity = backend.health_checker.identity
    return {
        "label": backend.label,
        "name": server.name or "",
        "address": server.label,
        "weight": server.weight,
        "role": role,
        "share": share,
        "state": state,
        "state_since": since,
        "by_hand": health.by_hand,
        "ejected_at": time.time() - (now - health.ejected_at) if health.ejections else 0.0,
        "last_error": counters.last_error,
        "last_error_at": counters.last_error_at,
        "identity": None if identity is None else identity._asdict(),
        "links": len(connections),
        "connects": counters.connects,
        "in_flight": sum(len(link.waiting) for link in connections),
        "backlog": sum(link.backlog() for link in connections),
        "unsent": sum(unsent for unsent, _ in queues),
        "bytes_waiting": sum(waiting for _, waiting in queues),
        "requests": counters.replies_by_command(),
        "keys": counters.keys_asked,
        "hits": counters.values_found,
        "refills": counters.fills,
        "errors": dict(counters.errors),
        "failures": counters.failures,
        "ejections": health.ejections,
        "journal": len(backend.invalidations),
        "journal_deleted": counters.keys_deleted,
        "journal_flushes": counters.flushes,
        "bytes_sent": backend.bytes_sent,
        "bytes_received": backend.bytes_received,
        "latency": {"count": sum(buckets), "sum": 0.0 if meter is None else meter.total, "buckets": buckets},
    }


# -- of all


def counters_only(report: Report) -> Report:
    """What stays of the report of a worker that has ended: its counters."""
    return report | {
        "workers": [],
        "process": report["process"] | {"resident": 0, "open_files": 0},
        "loop_lag": 0.0,
        "draining": False,
        "events": [],
        "pools": {
            title: pool
            | {
                "clients": pool["clients"] | dict.fromkeys(("current", "asleep", "held"), 0),
                "backends": [
                    backend | dict.fromkeys(GAUGES, 0) | {"state": UP, "state_since": 0.0, "by_hand": False, "identity": None}
                    for backend in pool["backends"]
                ],
            }
            for title, pool in report["pools"].items()
        },
    }


def merge(reports: Sequence[Report], pid: int | None = None, other_events: Sequence[dict[str, Any]] = ()) -> Report:
    """One report of many, as that of the process `pid`; `reports` is not empty. Those that are `counters_only` come last, and add to the
    servers that the others know. `other_events`: of a process that serves no clients."""
    first = reports[0]
    known = [report for report in reports if report["workers"]] or reports
    event_lists = [report["events"] for report in reports] + ([other_events] if other_events else [])
    return first | {
        "pid": first["pid"] if pid is None else pid,
        "workers": [number for report in reports for number in report["workers"]],
        "started": min(report["started"] for report in reports),
        "time": max(report["time"] for report in reports),
        "process": _sum([report["process"] for report in reports]),
        "loop_lag": max(report["loop_lag"] for report in reports),
        "draining": any(report["draining"] for report in reports),
        "pools": {
            title: _merge_pools(
                [report["pools"][title] for report in reports if title in report["pools"]],
                sum(title in report["pools"] for report in known),
            )
            for title in dict.fromkeys(title for report in known for title in report["pools"])
        },
        "events": events.merge(event_lists),
    }


def _sum(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(each.get(name, 0) for each in dicts) for name in dict.fromkeys(name for each in dicts for name in each)}


def _merge_pools(pools: Sequence[dict[str, Any]], known: int) -> dict[str, Any]:
    """The first `known` of them say which servers there are."""
    counters = ("misses_for_errors", "backup_writes_lost", "backup_writes_differed", "flushes", "fragments")
    return (
        pools[0]
        | _sum([{name: pool[name] for name in counters} for pool in pools])
        | {
            "clients": _sum([pool["clients"] for pool in pools]) | {"limit": max(pool["clients"]["limit"] for pool in pools[:known])},
            "backends": [_merge_backends(same) for same in _same_backends(pools, known)],
        }
    )


def _same_backends(pools: Sequence[dict[str, Any]], known: int) -> Iterable[list[dict[str, Any]]]:
    """For each server, what the workers report of it. A server may be listed twice, and a worker may know others for a moment."""
    by_server: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for number, pool in enumerate(pools):
        seen: dict[tuple[str, str], int] = {}
        for backend in pool["backends"]:
            name = backend["role"], backend["label"]
            seen[name] = seen.get(name, 0) + 1
            server = (*name, seen[name])
            if number < known or server in by_server:
                by_server.setdefault(server, []).append(backend)
    return by_server.values()


def _merge_backends(backends: Sequence[dict[str, Any]]) -> dict[str, Any]:
    worst = max(backends, key=lambda backend: STATES_BY_SEVERITY.index(backend["state"]))
    latest = max(backends, key=lambda backend: backend["last_error_at"])
    latencies = [backend["latency"] for backend in backends]
    return (
        backends[0]
        | _sum([{name: backend[name] for name in SUMS} for backend in backends])
        | {
            "state": worst["state"],
            "state_since": _state_since(backends, worst),
            "by_hand": any(backend["by_hand"] for backend in backends),
            "ejected_at": max(backend["ejected_at"] for backend in backends),
            "last_error": latest["last_error"],
            "last_error_at": latest["last_error_at"],
            "identity": max(
                (backend["identity"] for backend in backends if backend["identity"]), key=lambda one: one["uptime"] or 0, default=None
            ),
            "requests": _sum([backend["requests"] for backend in backends]),
            "errors": _sum([backend["errors"] for backend in backends]),
            "latency": {
                "count": sum(latency["count"] for latency in latencies),
                "sum": sum(latency["sum"] for latency in latencies),
                "buckets": [sum(counts) for counts in zip(*(latency["buckets"] for latency in latencies))],
            },
        }
    )


def _state_since(backends: Sequence[dict[str, Any]], worst: dict[str, Any]) -> float:
    """Since when the first worker has seen the state `worst`; or, where it is up, the last one."""
    if worst["state"] == UP:
        return max(backend["state_since"] for backend in backends)
    alike = (EJECTED, PROBING) if worst["state"] in (EJECTED, PROBING) else (worst["state"],)
    return min(backend["state_since"] for backend in backends if backend["state"] in alike)


# -- health

#: States of a server that is left alone.
AWAY = (EJECTED, PROBING)


def health_problems(report: Report, workers: int = 1) -> list[str]:
    """Why the service is not healthy: a list of sentences, empty if it is. `workers`: how many there should be."""
    problems = []
    if report["draining"]:
        problems.append("it lets its clients go")
    if len(report["workers"]) < workers:
        problems.append(f"{len(report['workers'])} of {workers} workers answer")
    for title, pool in report["pools"].items():
        if all(backend["state"] in AWAY for backend in pool["backends"]):
            problems.append(f"pool {title}: all servers are ejected")
    return problems


def degradations(report: Report) -> list[str]:
    """What a healthy service has lost: a list of sentences, one for each server that is ejected."""
    return [
        f"degraded: {backend['label']} ejected"
        for pool in report["pools"].values()
        for backend in pool["backends"]
        if backend["state"] in AWAY
    ]

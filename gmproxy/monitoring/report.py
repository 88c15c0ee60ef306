"""The report: the counters, states and measurements of one worker, or of all workers, as one object for JSON.

docs/monitoring.md describes its fields. Times are in seconds, sizes in bytes. When the reports of several workers are merged, counters are
added. Each worker has its own connections to a server and its own view of its state: the worst one is reported.
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
from gmproxy.monitoring.selection import all_sets

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend
    from gmproxy.routing.sets import ServerSet

OPEN_FILES_OF = "/proc/self/fd"

#: The states of a server, the worst last.
STATES_BY_SEVERITY = (UP, WARMING, FAILING, PROBING, EJECTED)

#: States of the journal of pending invalidations, the worst last: there is none, it is written, an operator has switched it off, or some of it
#: could not be written.
JOURNAL_STATES = (NO_JOURNAL, OK, OFF, INCOMPLETE) = ("none", "ok", "off", "incomplete")

#: States in which a server gets no requests.
AWAY = (EJECTED, PROBING)

#: Fields of a backend that are added over the workers; GAUGES are those that are not counters.
GAUGES = ("links", "in_flight", "backlog", "unsent", "bytes_waiting", "journal")
SUMS = (
    *GAUGES,
    "connects",
    "keys",
    "hits",
    "refills",
    "refills_undone",
    "failures",
    "ejections",
    "journal_deleted",
    "journal_flushes",
    "bytes_sent",
    "bytes_received",
)

#: Counters of a pool.
POOL_SUMS = (
    "misses_for_errors",
    "backup_writes_lost",
    "backup_writes_differed",
    "conflicting_changes",
    "verify_compared",
    "verify_different",
    "flushes",
    "fragments",
)

#: What a worker that has ended no longer sees of a server; see also GAUGES.
OF_ENDED = {
    "state": UP,
    "enabled": True,
    "state_since": 0.0,
    "by_hand": False,
    "identity": None,
    "journal_everything": False,
    "journal_age": 0.0,
}

#: Seconds between two listings of the open files of this process: 50,000 take 25 ms.
LISTED_EVERY = 10.0

# -- of one process


class OpenFiles:
    """Counts the open file descriptors of this process. `clock()` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listed_at = -LISTED_EVERY
        self._listed = 0

    def count(self) -> int:
        """The number of open file descriptors. From Linux 6.2 on, this is one system call. Older kernels only list them: then the number is
        cached for LISTED_EVERY seconds. Loop callback or greenlet."""
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
    """The report of `worker`, the one of this process. `now`: MonitoredWorker.now(). Loop callback or greenlet."""
    unix_now = time.time()  # the same moment as `now`: the report takes some milliseconds
    return {
        "pid": os.getpid(),
        "version": __version__,
        "build": BUILD,
        "workers": [os.getpid()],
        "started": unix_now - (now - worker.context.started_at),
        "time": unix_now,
        "process": _process_report()
        | {"journal_errors": 0 if worker.context.shared.journal is None else worker.context.shared.journal.errors},
        "loop_lag": round(worker.lag.seconds, 6),
        "draining": worker.draining,
        "fills_enabled": worker.context.fills_enabled,
        "journal": journal_state(worker.context.shared.journal),
        "pools": {pool.title: _pool_report(pool, now, unix_now) for pool in worker.pools.values()},
        "latency_bounds": list(BOUNDS),
        "events": events.merge([events.RECENT_EVENTS.as_list()]),
    }


def journal_state(journal: Any) -> str:
    """The one of JOURNAL_STATES for `journal` (gmproxy.shared.journal.Journal), None without journal_dir."""
    if journal is None:
        return NO_JOURNAL
    if journal.suspended:
        return OFF
    return INCOMPLETE if journal.failed or not journal.is_complete else OK


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


def _pool_report(pool: MonitoredPool, now: float, unix_now: float) -> dict[str, Any]:
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
        "conflicting_changes": router.counters.conflicting_changes,
        "verify_compared": router.counters.verify_compared,
        "verify_different": router.counters.verify_different,
        "flushes": context.flushes,
        "fragments": router.counters.fragments,
        "options": {name: render(setting, getattr(pool.config, name)) for name, setting in SETTINGS.items()},
        "backends": [
            _backend_report(pool, router.sets[0], backend, share, now, unix_now) for backend, share in zip(router.backends, shares)
        ]
        + [_backend_report(pool, one, backend, 0.0, now, unix_now) for one in all_sets(pool)[1:] for backend in one.backends],
    }


def _backend_report(
    pool: MonitoredPool, of_set: "ServerSet", backend: "Backend", share: float, now: float, unix_now: float
) -> dict[str, Any]:
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
        "role": backend.role,
        "set": of_set.name,
        "zone": of_set.zone,
        "enabled": of_set.enabled,
        "share": share,
        "state": state,
        "state_since": since,
        "by_hand": health.by_hand,
        "ejected_at": unix_now - (now - health.ejected_at) if health.ejections else 0.0,
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
        "refills_undone": counters.fills_undone,
        "errors": dict(counters.errors),
        "failures": counters.failures,
        "ejections": health.ejections,
        "journal": len(backend.invalidations),
        "journal_everything": backend.invalidations.pending() is None,
        "journal_age": round(now - backend.invalidations.since, 3) if backend.invalidations.since else 0.0,
        "journal_deleted": counters.keys_deleted,
        "journal_flushes": counters.flushes,
        "bytes_sent": backend.bytes_sent,
        "bytes_received": backend.bytes_received,
        "latency": {"count": sum(buckets), "sum": 0.0 if meter is None else meter.total, "buckets": buckets},
    }


# -- of all processes


def counters_only(report: Report) -> Report:
    """The `report` of a worker that has ended, reduced to its counters."""
    return report | {
        "workers": [],
        "process": report["process"] | {"resident": 0, "open_files": 0},
        "loop_lag": 0.0,
        "draining": False,
        "fills_enabled": True,
        "journal": NO_JOURNAL,
        "events": [],
        "pools": {
            title: pool
            | {
                "clients": pool["clients"] | dict.fromkeys(("current", "asleep", "held"), 0),
                "backends": [backend | dict.fromkeys(GAUGES, 0) | OF_ENDED for backend in pool["backends"]],
            }
            for title, pool in report["pools"].items()
        },
    }


def merge(reports: Sequence[Report], pid: int | None = None, other_events: Sequence[dict[str, Any]] = ()) -> Report:
    """The `reports` of several processes merged, as the report of the process `pid`.

    `reports` is not empty. Those from `counters_only` are the last: their counters are added to the servers that the other reports have.
    `other_events`: events of the master. Worker or master.
    """
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
        "fills_enabled": all(report["fills_enabled"] for report in reports),
        "journal": worst_journal_state([report["journal"] for report in reports]),
        "pools": {
            title: _merge_pools(
                [report["pools"][title] for report in reports if title in report["pools"]],
                sum(title in report["pools"] for report in known),
            )
            for title in dict.fromkeys(title for report in known for title in report["pools"])
        },
        "events": events.merge(event_lists),
    }


def worst_journal_state(states: Iterable[str]) -> str:
    """Of JOURNAL_STATES. Worker or master."""
    return max(states, key=JOURNAL_STATES.index)


def _sum(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(each.get(name, 0) for each in dicts) for name in dict.fromkeys(name for each in dicts for name in each)}


def _merge_pools(pools: Sequence[dict[str, Any]], known: int) -> dict[str, Any]:
    """The servers are those of the first `known` pools."""
    return (
        pools[0]
        | _sum([{name: pool[name] for name in POOL_SUMS} for pool in pools])
        | {
            "clients": _sum([pool["clients"] for pool in pools]) | {"limit": max(pool["clients"]["limit"] for pool in pools[:known])},
            "backends": [_merge_backends(same) for same in _same_backends(pools, known)],
        }
    )


def _same_backends(pools: Sequence[dict[str, Any]], known: int) -> Iterable[list[dict[str, Any]]]:
    """A list for each server, with its entries in the reports. A pool may list a server twice; during a reload the workers may have different
    servers."""
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
            "enabled": all(backend["enabled"] for backend in backends),
            "state_since": _state_since(backends, worst),
            "by_hand": any(backend["by_hand"] for backend in backends),
            "journal_everything": any(backend["journal_everything"] for backend in backends),
            "journal_age": max(backend["journal_age"] for backend in backends),
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
    """Unix time since which the first worker sees the state of `worst`; if that is up: since which all workers see it."""
    if worst["state"] == UP:
        times: list[float] = [backend["state_since"] for backend in backends]
        return max(times)
    alike = AWAY if worst["state"] in AWAY else (worst["state"],)
    times = [backend["state_since"] for backend in backends if backend["state"] in alike]
    return min(times)


# -- health


def health_problems(report: Report, workers: int = 1) -> list[str]:
    """The reasons why the service is unhealthy, each a line; empty if it is healthy. `workers`: their configured number."""
    problems = []
    if report["draining"]:
        problems.append("draining: no new clients are accepted")
    if len(report["workers"]) < workers:
        problems.append(f"{len(report['workers'])} of {workers} workers reply")
    for title, pool in report["pools"].items():
        if all(backend["state"] in AWAY or not backend["enabled"] for backend in pool["backends"]):
            problems.append(f"pool {title}: all servers are ejected")
    return problems


def degradations(report: Report) -> list[str]:
    """A line for each server that is ejected or probing; for a service that is healthy."""
    return [
        f"degraded: {backend['label']} ejected"
        for pool in report["pools"].values()
        for backend in pool["backends"]
        if backend["state"] in AWAY and backend["enabled"]
    ]

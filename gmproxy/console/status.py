"""gmproxyctl status: state and counters of the service, its pools and its servers."""

import sys
from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.monitoring.rates import ServerCounters, is_ejected, is_enabled, primaries, quantile

#: The exit status if a server is ejected or probing.
SERVER_EJECTED = 3

HEADS = ("STATE<", "FOR<", "SERVER<", "SHARE", "CONNS", "IN FLIGHT", "REQUESTS", "HITS", "P50", "P99", "ERRORS", "LAST ERROR<")

#: In the place of SHARE for a pool with replicas: its sets, pending invalidations and fills.
SET_HEADS = ("SET<", "ZONE<", "SHARE", "OWED", "FILLS")


def status_parser() -> CommandParser:
    return CommandParser(
        "status",
        "Print state and counters of the service, its pools and servers. The exit status is 3 if a server is ejected or probing.",
        has_pool=True,
    )


def status(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parsed = status_parser().parse_args(arguments)
    report = ServiceClient.from_arguments(parsed).fetch_report(parsed.pool)
    if parsed.json:
        print_json(report)
    else:
        print("\n".join(format_report(report, table.wants_colour(sys.stdout))))
    return SERVER_EJECTED if any(is_ejected(backend) for pool in report["pools"].values() for backend in pool["backends"]) else 0


def format_report(report: dict[str, Any], coloured: bool = False) -> list[str]:
    """`report` as lines for a terminal."""
    lines = [table.paint(service_line(report), "bold", coloured)]
    for name, pool in report["pools"].items():
        rows = [_row(report, backend) for backend in pool["backends"]]
        heads: tuple[str, ...] = HEADS
        if has_replicas(pool):
            heads = (*HEADS[:3], *SET_HEADS, *HEADS[4:])
            rows = [(*row[:3], *_set_cells(backend), *row[4:]) for row, backend in zip(rows, pool["backends"])]
        lines += ["", pool_line(name, pool), *table.format_table(heads, rows, coloured)]
        ejected = sum(map(is_ejected, pool["backends"]))
        if ejected:
            lines.append(table.paint(f"{ejected} of {units.count(len(pool['backends']), 'server')} ejected", "ejected", coloured))
    return lines


def service_line(report: dict[str, Any]) -> str:
    """The first line: version, process ID, workers, uptime, memory and loop lag of the service."""
    process = report["process"]
    words = [
        f"gmproxy {report['version']} ({report['build']})",
        f"pid {report['pid']}",
        units.count(len(report["workers"]), "worker"),
        f"up {units.age(report['time'] - report['started'])}",
        f"memory {units.size(process['resident'])}",
        f"loop lag {units.duration(report['loop_lag'])}",
    ]
    if report.get("draining"):
        words.append("draining")
    if not report["fills_enabled"]:
        words.append("fills off")
    if report["journal"] in ("off", "incomplete"):
        words.append(f"journal {report['journal']}")
    return table.plain(", ".join(words))


def pool_line(name: str, pool: dict[str, Any]) -> str:
    """The line above the servers of a pool: clients, and the sums of the counters."""
    counters, reads = ServerCounters.total(pool["backends"]), ServerCounters.total(primaries(pool))
    clients = pool["clients"]
    limit = f" of {clients['limit']}" if clients["limit"] else ""
    differing = f", {units.number(pool['backup_writes_differed'])} differing replies" if has_replicas(pool) else ""
    return table.plain(
        f"pool {name}: {clients['current']}{limit} clients, {units.number(counters.requests)} requests, "
        f"hit ratio {units.percent(reads.hit_ratio)}, {units.number(counters.errors)} errors{differing}"
    )


def has_replicas(pool: dict[str, Any]) -> bool:
    """True if the pool of a report has sets of servers besides the main one and a backup."""
    return any(backend["role"] not in ("primary", "backup") for backend in pool["backends"])


def server_name(backend: dict[str, Any]) -> str:
    """The name and address of a server, with its weight if that is not 1, and `backup` if it is one."""
    words = [f"{backend['name']} ({backend['address']})" if backend["name"] else backend["label"]]
    if backend["weight"] != 1:
        words.append(f"weight {backend['weight']}")
    if backend["role"] == "backup":
        words.append("backup")
    return " ".join(words)


def state_cell(backend: dict[str, Any]) -> table.Cell:
    """The state of a server, and whether an operator ejected it, in the colour of the state; `off` if its set is switched off."""
    if not is_enabled(backend):
        return table.Cell("off", None)
    word = f"{backend['state']} by hand" if backend.get("by_hand") else backend["state"]
    return table.Cell(word, backend["state"] if backend["state"] in table.COLOURS else None)


def _row(report: dict[str, Any], backend: dict[str, Any]) -> tuple[str, ...]:
    counters = ServerCounters.total([backend])
    last = ""
    if backend["last_error"]:
        last = f"{backend['last_error']}, {units.age(report['time'] - backend['last_error_at'])} ago"
    return (
        state_cell(backend),
        units.age(report["time"] - backend["state_since"]),
        server_name(backend),
        units.percent(backend["share"]) if backend["role"] == "primary" else "",
        str(backend["links"]),
        str(backend["in_flight"]),
        units.number(counters.requests),
        units.percent(counters.hit_ratio),
        *(units.duration(quantile(report["latency_bounds"], counters.buckets, part)) for part in (0.5, 0.99)),
        units.number(counters.errors),
        last,
    )


def _set_cells(backend: dict[str, Any]) -> tuple[str, ...]:
    """The cells of SET_HEADS."""
    return (
        backend["set"],
        backend["zone"],
        units.percent(backend["share"]) if backend["role"] == "primary" else "",
        "all" if backend["journal_everything"] else units.number(backend["journal"]),
        units.number(backend["refills"]),
    )

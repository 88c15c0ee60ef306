"""gmproxyctl status: the service, its pools and its servers, at this moment and since the counters began."""

import sys
from collections.abc import Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.monitoring.rates import ServerCounters, is_ejected, primaries, quantile

#: The exit status if a server is down.
DOWN = 3

HEADS = ("STATE<", "FOR<", "SERVER<", "SHARE", "LINKS", "IN FLIGHT", "REQUESTS", "HITS", "P50", "P99", "ERRORS", "LAST ERROR<")


def status_parser() -> CommandParser:
    return CommandParser("status", "Show the service, its pools and servers. Exit status 3: a server is ejected or probed.", has_pool=True)


def status(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parsed = status_parser().parse_args(arguments)
    report = ServiceClient.from_arguments(parsed).fetch_report(parsed.pool)
    if parsed.json:
        print_json(report)
    else:
        print("\n".join(format_report(report, table.wants_colour(sys.stdout))))
    return DOWN if any(is_ejected(backend) for pool in report["pools"].values() for backend in pool["backends"]) else 0


def format_report(report: dict[str, Any], coloured: bool = False) -> list[str]:
    """The report as lines for a terminal."""
    lines = [table.paint(service_line(report), "bold", coloured)]
    for name, pool in report["pools"].items():
        lines += ["", pool_line(name, pool), *table.format_table(HEADS, [_row(report, backend) for backend in pool["backends"]], coloured)]
        down = sum(map(is_ejected, pool["backends"]))
        if down:
            lines.append(table.paint(f"{down} of {units.count(len(pool['backends']), 'server')} down", "ejected", coloured))
    return lines


def service_line(report: dict[str, Any]) -> str:
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
    return table.plain(", ".join(words))


def pool_line(name: str, pool: dict[str, Any]) -> str:
    counters, reads = ServerCounters.total(pool["backends"]), ServerCounters.total(primaries(pool))
    clients = pool["clients"]
    limit = f" of {clients['limit']}" if clients["limit"] else ""
    return table.plain(
        f"pool {name}: {clients['current']}{limit} clients, {units.number(counters.requests)} requests, "
        f"{units.percent(reads.hit_ratio)} hits, {units.number(counters.errors)} errors"
    )


def server_name(backend: dict[str, Any]) -> str:
    """The name or address of a server, with its weight and role if they are not the usual ones."""
    words = [f"{backend['name']} ({backend['address']})" if backend["name"] else backend["label"]]
    if backend["weight"] != 1:
        words.append(f"weight {backend['weight']}")
    if backend["role"] == "backup":
        words.append("backup")
    return " ".join(words)


def state_cell(backend: dict[str, Any]) -> table.Cell:
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
        units.percent(backend["share"]) if backend["role"] != "backup" else "",
        str(backend["links"]),
        str(backend["in_flight"]),
        units.number(counters.requests),
        units.percent(counters.hit_ratio),
        *(units.duration(quantile(report["latency_bounds"], counters.buckets, part)) for part in (0.5, 0.99)),
        units.number(counters.errors),
        last,
    )

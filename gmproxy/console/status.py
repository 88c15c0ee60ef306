"""gmproxyctl status: the service, its pools and its servers, at this moment and since the counters began."""

import sys

from gmproxy.console import table, units
from gmproxy.console.rates import Counted, is_down, primaries, quantile
from gmproxy.console.service import Parser, ServiceClient, print_json

#: The exit status if a server is down.
DOWN = 3

HEADS = ("STATE<", "FOR<", "SERVER<", "SHARE", "LINKS", "IN FLIGHT", "REQUESTS", "HITS", "P50", "P99", "ERRORS", "LAST ERROR<")


def status(arguments):
    """Returns the exit status. Raises ConfigError, Refused."""
    parser = Parser("status")
    parser.add_argument("--pool")
    given = parser.parse_args(arguments)
    report = ServiceClient.of(given).report(given.pool)
    if given.json:
        print_json(report)
    else:
        print("\n".join(shown(report, table.wants_colour(sys.stdout))))
    return DOWN if any(is_down(backend) for pool in report["pools"].values() for backend in pool["backends"]) else 0


def shown(report, coloured=False):
    """The lines of it."""
    lines = [table.paint(head(report), "bold", coloured)]
    for name, pool in report["pools"].items():
        lines += ["", about(name, pool), *table.lines(HEADS, [_row(report, backend) for backend in pool["backends"]], coloured)]
        down = sum(map(is_down, pool["backends"]))
        if down:
            lines.append(table.paint(f"{down} of {units.count(len(pool['backends']), 'server')} down", "ejected", coloured))
    return lines


def head(report):
    process = report["process"]
    words = [
        f"gmproxy {report['version']} ({report['build']})", f"pid {report['pid']}", units.count(len(report["workers"]), "worker"),
        f"up {units.age(report['time'] - report['started'])}", f"memory {units.size(process['resident'])}",
        f"loop lag {units.duration(report['loop_lag'])}",
    ]
    if report.get("draining"):
        words.append("draining")
    return table.plain(", ".join(words))


def about(name, pool):
    counted, read = Counted.by(pool["backends"]), Counted.by(primaries(pool))
    clients = pool["clients"]
    limit = f" of {clients['limit']}" if clients["limit"] else ""
    return table.plain(
        f"pool {name}: {clients['current']}{limit} clients, {units.number(counted.requests)} requests, "
        f"{units.percent(read.hit_ratio)} hits, {units.number(counted.errors)} errors"
    )


def server(backend):
    """What a server is called."""
    words = [f"{backend['name']} ({backend['address']})" if backend["name"] else backend["label"]]
    if backend["weight"] != 1:
        words.append(f"weight {backend['weight']}")
    if backend["role"] == "backup":
        words.append("backup")
    return " ".join(words)


def state(backend):
    word = f"{backend['state']} by hand" if backend.get("by_hand") else backend["state"]
    return table.Cell(word, backend["state"] if backend["state"] in table.COLOURS else None)


def _row(report, backend):
    counted = Counted.by([backend])
    last = ""
    if backend["last_error"]:
        last = f"{backend['last_error']}, {units.age(report['time'] - backend['last_error_at'])} ago"
    return (
        state(backend), units.age(report["time"] - backend["state_since"]), server(backend),
        units.percent(backend["share"]) if backend["role"] != "backup" else "", str(backend["links"]), str(backend["in_flight"]),
        units.number(counted.requests), units.percent(counted.hit_ratio),
        *(units.duration(quantile(report["latency_bounds"], counted.buckets, part)) for part in (0.5, 0.99)),
        units.number(counted.errors), last,
    )

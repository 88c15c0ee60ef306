"""gmproxyctl stats, servers, hotkeys, slow and tail. Each returns the exit status, and raises ConfigError, ServiceError."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.command_parser import CommandParser, seconds, whole
from gmproxy.console.service_client import ServiceClient, check_pool, print_json

#: Seconds for which requests are sampled: default and maximum.
SAMPLE, LONGEST_SAMPLE = 5.0, 60.0

SERVERS = ("SERVER<", "POOL<", "ROLE<", "NAME<")
HOT = ("REQUESTS", "SHARE", "POOL<", "COMMAND<", "KEY<")
SLOW = ("DURATION", "ROLE<", "COMMAND<", "POOL<", "SERVER<", "TIME<", "KEY<")
TAIL = ("TIME<", "POOL<", "COMMAND<", "KEYS", "BYTES", "KEY<")

#: Requests that `tail` prints: default and maximum; and the default of the seconds that it waits for them.
TAIL_SHOWN, MOST_SHOWN, TAIL_WAITS = 20, 1000, 1.0


def stats_parser() -> CommandParser:
    return CommandParser("stats", 'Print the counters that "stats proxy" returns to a client.', has_pool=True)


def stats(arguments: Sequence[str]) -> int:
    parsed = stats_parser().parse_args(arguments)
    counters = ServiceClient.from_arguments(parsed).send_command("stats", *filter(None, [parsed.pool]))["general"]
    if parsed.json:
        print_json(counters)
    else:
        for name, value in counters.items():
            print(f"{name} {value:.6f}" if isinstance(value, float) else f"{name} {value}")
    return 0


def servers_parser() -> CommandParser:
    return CommandParser("servers", "List pools and servers, with the names that --pool, eject and restore take.", has_pool=True)


def servers(arguments: Sequence[str]) -> int:
    parsed = servers_parser().parse_args(arguments)
    listed = ServiceClient.from_arguments(parsed).send_command("servers")["servers"]
    check_pool(parsed.pool, dict.fromkeys(server["pool"] for server in listed))
    if parsed.pool is not None:
        listed = [server for server in listed if server["pool"] == parsed.pool]
    if parsed.json:
        print_json(listed)
    else:
        rows = [(server["label"], server["pool"], server["role"], server["name"]) for server in listed]
        print("\n".join(table.format_table(SERVERS, rows, table.wants_colour(sys.stdout))))
    return 0


def hotkeys_parser() -> CommandParser:
    parser = CommandParser("hotkeys", "Print the most frequent keys in a sample of the current requests.", has_pool=True)
    parser.add_argument(
        "seconds",
        nargs="?",
        metavar="SECONDS",
        type=seconds(0.1, LONGEST_SAMPLE),
        default=SAMPLE,
        help="length of the sample in seconds (default: %(default)g)",
    )
    return parser


def hotkeys(arguments: Sequence[str]) -> int:
    parsed = hotkeys_parser().parse_args(arguments)
    return _show(
        parsed,
        "hotkeys",
        "keys",
        [f"{parsed.seconds:g}"],
        HOT,
        lambda key: (
            units.number(key["count"]),
            units.percent(key["share"]),
            key["pool"],
            key["command"],
            key["key"],
        ),
    )


def slow_parser() -> CommandParser:
    return CommandParser(
        "slow", "Print the slowest of the latest requests for which a server needed longer than slow_threshold.", has_pool=True
    )


def slow(arguments: Sequence[str]) -> int:
    return _show(
        slow_parser().parse_args(arguments),
        "slow",
        "slow",
        [],
        SLOW,
        lambda request: (
            units.duration(request["seconds"]),
            request["stage"],
            request["command"],
            request["pool"],
            request["backend"],
            _clock(request["time"]),
            request["key"],
        ),
    )


def tail_parser() -> CommandParser:
    parser = CommandParser("tail", "Print a sample of the current requests.", has_pool=True)
    parser.add_argument(
        "count",
        nargs="?",
        metavar="COUNT",
        type=whole(1, MOST_SHOWN),
        default=TAIL_SHOWN,
        help="maximum number of requests (default: %(default)d)",
    )
    parser.add_argument(
        "seconds", nargs="?", metavar="SECONDS", type=seconds(0.1, LONGEST_SAMPLE), default=TAIL_WAITS,
        help="seconds to wait for them (default: %(default)g)",
    )  # fmt: skip
    return parser


def tail(arguments: Sequence[str]) -> int:
    parsed = tail_parser().parse_args(arguments)
    return _show(
        parsed,
        "tail",
        "requests",
        [str(parsed.count), f"{parsed.seconds:g}"],
        TAIL,
        lambda request: (
            _clock(request["time"]),
            request["pool"],
            request["command"],
            str(request["keys"]),
            str(request["bytes"]),
            request["key"],
        ),
    )


def _show(
    parsed: argparse.Namespace,
    command: str,
    name: str,
    words: Sequence[str],
    heads: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[str]],
) -> int:
    """Send `command` with `words` and the pool, and print the list `name` of the response: as JSON, or as a table with the columns of `row`.
    Returns the exit status. Raises ServiceError."""
    words = [*words, *filter(None, [parsed.pool])]
    listed = ServiceClient.from_arguments(parsed).send_command(command, *words, extra_time=getattr(parsed, "seconds", 0.0))[name]
    if parsed.json:
        print_json(listed)
    elif listed:
        print("\n".join(table.format_table(heads, map(row, listed), table.wants_colour(sys.stdout))))
    else:
        print("no slow requests" if command == "slow" else "no requests in the sample")
    return 0


def _clock(unix_time: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(unix_time))

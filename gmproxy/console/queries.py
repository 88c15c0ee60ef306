"""What gmproxyctl queries beside the status: counters, and samples of the requests.

Each command returns the exit status, and raises ConfigError, ServiceError.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy.console import table, units
from gmproxy.console.service_client import CommandParser, ServiceClient, print_json, seconds, whole

#: Seconds for which requests are sampled: the default, and at most.
SAMPLE, LONGEST_SAMPLE = 5.0, 60.0

HOT = ("REQUESTS", "PART", "COMMAND<", "KEY<")
SLOW = ("TOOK", "STAGE<", "COMMAND<", "SERVER<", "AT<", "KEY<")
TAIL = ("AT<", "POOL<", "COMMAND<", "KEYS", "BYTES", "KEY<")

#: Requests that `tail` shows: the default, and at most; and how many seconds it waits for them.
TAIL_SHOWN, MOST_SHOWN, TAIL_WAITS = 20, 1000, 1.0


def stats(arguments: Sequence[str]) -> int:
    parser = CommandParser("stats")
    parser.add_argument("--pool")
    parsed = parser.parse_args(arguments)
    counters = ServiceClient.from_arguments(parsed).send_command("stats", *filter(None, [parsed.pool]))["general"]
    if parsed.json:
        print_json(counters)
    else:
        for name, value in counters.items():
            print(f"{name} {value:.6f}" if isinstance(value, float) else f"{name} {value}")
    return 0


def hotkeys(arguments: Sequence[str]) -> int:
    parser = CommandParser("hotkeys")
    parser.add_argument("seconds", nargs="?", type=seconds(0.1, LONGEST_SAMPLE), default=SAMPLE)
    parsed = parser.parse_args(arguments)
    return _show(
        parsed,
        "hotkeys",
        "keys",
        [f"{parsed.seconds:g}"],
        HOT,
        lambda key: (
            units.number(key["count"]),
            units.percent(key["share"]),
            key["command"],
            key["key"],
        ),
    )


def slow(arguments: Sequence[str]) -> int:
    return _show(
        CommandParser("slow").parse_args(arguments),
        "slow",
        "slow",
        [],
        SLOW,
        lambda request: (
            units.duration(request["seconds"]),
            request["stage"],
            request["command"],
            request["backend"],
            _clock(request["time"]),
            request["key"],
        ),
    )


def tail(arguments: Sequence[str]) -> int:
    parser = CommandParser("tail")
    parser.add_argument("count", nargs="?", type=whole(1, MOST_SHOWN), default=TAIL_SHOWN)
    parser.add_argument("seconds", nargs="?", type=seconds(0.1, LONGEST_SAMPLE), default=TAIL_WAITS)
    parsed = parser.parse_args(arguments)
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
    """Send `command`, and print the list `name` in the response: as JSON, or a line made by `row` of each. Raises ServiceError."""
    listed = ServiceClient.from_arguments(parsed).send_command(command, *words, extra_time=getattr(parsed, "seconds", 0.0))[name]
    if parsed.json:
        print_json(listed)
    elif listed:
        print("\n".join(table.format_table(heads, map(row, listed), table.wants_colour(sys.stdout))))
    else:
        print("none")
    return 0


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))

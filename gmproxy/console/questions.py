"""What gmproxyctl asks the service, besides how it is: its counters, and which requests there are."""

import sys
import time

from gmproxy.console import table, units
from gmproxy.console.service import Parser, ServiceClient, print_json, seconds, whole

#: Seconds for which requests are sampled if nothing is said, and at most.
SAMPLE, LONGEST_SAMPLE = 5.0, 60.0

HOT = ("REQUESTS", "PART", "COMMAND<", "KEY<")
SLOW = ("TOOK", "STAGE<", "COMMAND<", "SERVER<", "AT<", "KEY<")
TAIL = ("AT<", "POOL<", "COMMAND<", "KEYS", "BYTES", "KEY<")

#: Requests that `tail` shows if nothing is said, and at most; and how many seconds it waits for them.
TAIL_SHOWN, MOST_SHOWN, TAIL_WAITS = 20, 1000, 1.0


def stats(arguments):
    """Returns the exit status, as all of these. Raises ConfigError, Refused."""
    parser = Parser("stats")
    parser.add_argument("--pool")
    given = parser.parse_args(arguments)
    told = ServiceClient.of(given).ask("stats", *filter(None, [given.pool]))["general"]
    if given.json:
        print_json(told)
    else:
        for name, value in told.items():
            print(f"{name} {value:.6f}" if isinstance(value, float) else f"{name} {value}")
    return 0


def hotkeys(arguments):
    parser = Parser("hotkeys")
    parser.add_argument("seconds", nargs="?", type=seconds(0.1, LONGEST_SAMPLE), default=SAMPLE)
    given = parser.parse_args(arguments)
    return _show(given, "hotkeys", "keys", [f"{given.seconds:g}"], HOT, lambda key: (
        units.number(key["count"]), units.percent(key["share"]), key["command"], key["key"],
    ))


def slow(arguments):
    return _show(Parser("slow").parse_args(arguments), "slow", "slow", [], SLOW, lambda request: (
        units.duration(request["seconds"]), request["stage"], request["command"], request["backend"], _clock(request["time"]), request["key"],
    ))


def tail(arguments):
    parser = Parser("tail")
    parser.add_argument("count", nargs="?", type=whole(1, MOST_SHOWN), default=TAIL_SHOWN)
    parser.add_argument("seconds", nargs="?", type=seconds(0.1, LONGEST_SAMPLE), default=TAIL_WAITS)
    given = parser.parse_args(arguments)
    return _show(given, "tail", "requests", [str(given.count), f"{given.seconds:g}"], TAIL, lambda request: (
        _clock(request["time"]), request["pool"], request["command"], str(request["keys"]), str(request["bytes"]), request["key"],
    ))


def _show(given, command, name, words, heads, row):
    """Ask, and print the list of that `name` in the answer: JSON, or a line made by `row` of each."""
    listed = ServiceClient.of(given).ask(command, *words, patience=getattr(given, "seconds", 0.0))[name]
    if given.json:
        print_json(listed)
    elif listed:
        print("\n".join(table.lines(heads, map(row, listed), table.wants_colour(sys.stdout))))
    else:
        print("none")
    return 0


def _clock(moment):
    return time.strftime("%H:%M:%S", time.localtime(moment))

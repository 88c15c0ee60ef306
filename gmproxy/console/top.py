"""gmproxyctl top: live rates of the service."""

import argparse
import json
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gmproxy.console import status, table, units
from gmproxy.console.command_parser import CommandParser, seconds, whole
from gmproxy.console.service_client import ServiceClient
from gmproxy.monitoring.rates import rates_between

HEADS = ("STATE<", "SERVER<", "REQ/S", "HITS", "P50", "P99", "ERR/S", "SENT/S", "RECV/S", "CONNS", "IN FLIGHT")

_OTHER_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW, _LAST_LINE = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[%dH"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"

_KEYS, _PAUSED = "q: quit, space: pause", "paused (space: continue, q: quit)"
_END_OF_INPUT = b"\x04"


def top_parser() -> CommandParser:
    parser = CommandParser("top", "Show live rates of the service: q quits, space pauses.", has_pool=True)
    parser.add_argument(
        "--interval", metavar="S", type=seconds(0.1, 3600), default=1.0, help="seconds between two updates (default: %(default)g)"
    )
    parser.add_argument("--count", metavar="N", type=whole(1, 1_000_000_000), help="quit after N updates")
    return parser


def top(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parsed = top_parser().parse_args(arguments)
    service = ServiceClient.from_arguments(parsed)
    if parsed.json:
        for before, after in _report_pairs(service, parsed, time.sleep):
            print(json.dumps(rates_between(before, after)), flush=True)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        with _Screen() as screen:
            for before, after in _report_pairs(service, parsed, screen.wait):
                screen.show(format_rates(before, after, table.wants_colour(sys.stdout)))
    else:
        for before, after in _report_pairs(service, parsed, time.sleep):
            print("\n".join(format_rates(before, after)), end="\n\n", flush=True)
    return 0


def _report_pairs(
    service: ServiceClient, parsed: argparse.Namespace, wait: Callable[[float], bool | None]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(a report, the next one), --count times at most, until `wait(seconds)` returns True. Raises ServiceError, ConfigError."""
    before = service.fetch_report(parsed.pool)
    number = 0
    while number != parsed.count and not wait(parsed.interval):
        after = service.fetch_report(parsed.pool)
        yield before, after
        before = after
        number += 1


def format_rates(before: dict[str, Any], after: dict[str, Any], coloured: bool = False) -> list[str]:
    """The rates between two reports as lines for a terminal."""
    lines = [table.paint(status.service_line(after), "bold", coloured)]
    for name, pool in rates_between(before, after)["pools"].items():
        lines += [
            "",
            table.plain(
                f"pool {name}: {pool['clients']} clients, {units.number(pool['requests_per_second'])} requests/s, "
                f"hit ratio {units.percent(pool['hit_ratio'])}, {units.number(pool['errors_per_second'])} errors/s, "
                f"p99 {units.duration(pool['p99'])}"
            ),
            *_servers_table(pool, coloured),
        ]
    return lines


def _servers_table(pool: dict[str, Any], coloured: bool) -> list[str]:
    heads: tuple[str, ...] = HEADS
    rows = [_row(backend) for backend in pool["backends"]]
    if status.has_replicas(pool):
        heads = (*HEADS[:2], "SET<", "ZONE<", *HEADS[2:])
        rows = [(*row[:2], backend["set"], backend["zone"], *row[2:]) for row, backend in zip(rows, pool["backends"])]
    return table.format_table(heads, rows, coloured)


def _row(backend: dict[str, Any]) -> tuple[str, ...]:
    return (
        status.state_cell(backend),
        status.server_name(backend),
        units.number(backend["requests_per_second"]),
        units.percent(backend["hit_ratio"]),
        units.duration(backend["p50"]),
        units.duration(backend["p99"]),
        units.number(backend["errors_per_second"]),
        units.size(backend["sent_per_second"]),
        units.size(backend["received_per_second"]),
        str(backend["links"]),
        str(backend["in_flight"]),
    )


class _Screen:
    """The terminal while `top` uses all of it. A context manager, which restores the terminal."""

    def __enter__(self) -> "_Screen":
        self._input = sys.stdin.fileno()
        self._settings = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        self._print(_OTHER_SCREEN + _HOME + "Measuring ..." + _BELOW)
        return self

    def __exit__(self, *failure: object) -> None:
        self._print(_FIRST_SCREEN)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)

    def show(self, lines: Sequence[str]) -> None:
        """Show `lines`, as many as the terminal has room for."""
        height = shutil.get_terminal_size().lines
        shown = "\r\n".join(line + _END_OF_LINE for line in lines[: height - 1])
        self._print(_HOME + _NO_WRAP + shown + _BELOW + _LAST_LINE % height + _KEYS + _WRAP)

    def wait(self, duration: float) -> bool:
        """Wait `duration` seconds, longer while paused. True if the user quits."""
        until = time.monotonic() + duration
        is_paused = False
        while is_paused or time.monotonic() < until:
            left = None if is_paused else max(0.0, until - time.monotonic())
            if select.select([self._input], [], [], left)[0]:
                keys = os.read(self._input, 64)
                if not keys or b"q" in keys.lower() or _END_OF_INPUT in keys:
                    return True
                if keys.count(b" ") % 2:
                    is_paused = not is_paused
                    self._print(_LAST_LINE % shutil.get_terminal_size().lines + (_PAUSED if is_paused else _KEYS) + _END_OF_LINE)
        return False

    @staticmethod
    def _print(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

"""gmproxyctl top: what happens now, in rates, looked at again and again."""

import json
import os
import select
import shutil
import sys
import termios
import time
import tty

from gmproxy.console import status, table, units
from gmproxy.console.rates import Counted, primaries, quantile
from gmproxy.console.service import Parser, ServiceClient, seconds, whole

HEADS = ("STATE<", "SERVER<", "REQ/S", "HITS", "P50", "P99", "ERR/S", "OUT/S", "IN/S", "LINKS", "IN FLIGHT")

_OTHER_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW, _LAST_LINE = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[%dH"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"

_KEYS, _HELD = "q ends, space holds", "held: space goes on, q ends"
_END_OF_INPUT = b"\x04"


def top(arguments):
    """Returns the exit status. Raises ConfigError, Refused."""
    parser = Parser("top")
    parser.add_argument("--pool")
    parser.add_argument("--interval", type=seconds(0.1, 3600), default=1.0)
    parser.add_argument("--count", type=whole(1, 1_000_000_000))
    given = parser.parse_args(arguments)
    service = ServiceClient.of(given)
    if given.json:
        for before, after in _looks(service, given, time.sleep):
            print(json.dumps(figures(before, after)), flush=True)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        with _Screen() as screen:
            for before, after in _looks(service, given, screen.wait):
                screen.show(shown(before, after, table.wants_colour(sys.stdout)))
    else:
        for before, after in _looks(service, given, time.sleep):
            print("\n".join(shown(before, after)), end="\n\n", flush=True)
    return 0


def _looks(service, given, wait):
    """(report, next report) again and again; `wait(seconds)` is true when it is enough."""
    before = service.report(given.pool)
    number = 0
    while number != given.count and not wait(given.interval):
        after = service.report(given.pool)
        yield before, after
        before = after
        number += 1


def figures(before, after):
    """What happened between two reports, in rates: JSON can hold it."""
    elapsed = after["time"] - before["time"]
    if sorted(before["workers"]) != sorted(after["workers"]):  # one that is new, or was too busy to answer, makes the sums jump
        before = {"pools": {}}
    pools = {}
    for name, pool in after["pools"].items():
        then = before["pools"].get(name, {"backends": []})
        known = {(backend["role"], backend["label"]): backend for backend in then["backends"]}
        pools[name] = {
            "clients": pool["clients"]["current"],
            **_rates(then["backends"], pool["backends"], elapsed, after["latency_bounds"]),
            "hit_ratio": _rates(primaries(then), primaries(pool), elapsed, after["latency_bounds"])["hit_ratio"],
            "backends": [
                {name: backend[name] for name in ("label", "name", "address", "weight", "role", "state", "by_hand", "links", "in_flight") if name in backend}
                | _rates([known[key]] if (key := (backend["role"], backend["label"])) in known else [], [backend], elapsed, after["latency_bounds"])
                for backend in pool["backends"]
            ],
        }
    return {"time": after["time"], "seconds": elapsed, "pools": pools}


def _rates(before, after, elapsed, bounds):
    """Of some backends together; None is what cannot be told, as if there were nobody `before`."""
    counted = Counted.by(after).since(Counted.by(before)) if before and after and elapsed > 0 else None
    names = ("requests", "errors", "sent", "received")
    if counted is None:
        return dict.fromkeys((*(f"{name}_per_second" for name in names), "hit_ratio", "p50", "p99"))
    rates = {f"{name}_per_second": getattr(counted, name) / elapsed for name in names}
    return rates | {"hit_ratio": counted.hit_ratio, "p50": quantile(bounds, counted.buckets, 0.5), "p99": quantile(bounds, counted.buckets, 0.99)}


def shown(before, after, coloured=False):
    """The lines of it."""
    lines = [table.paint(status.head(after), "bold", coloured)]
    for name, pool in figures(before, after)["pools"].items():
        lines += [
            "", table.plain(f"pool {name}: {pool['clients']} clients, {units.number(pool['requests_per_second'])} requests/s, "
                            f"{units.percent(pool['hit_ratio'])} hits, {units.number(pool['errors_per_second'])} errors/s, "
                            f"99 % within {units.duration(pool['p99'])}"),
            *table.lines(HEADS, [_row(backend) for backend in pool["backends"]], coloured),
        ]
    return lines


def _row(backend):
    return (
        status.state(backend), status.server(backend), units.number(backend["requests_per_second"]), units.percent(backend["hit_ratio"]),
        units.duration(backend["p50"]), units.duration(backend["p99"]), units.number(backend["errors_per_second"]),
        units.size(backend["sent_per_second"]), units.size(backend["received_per_second"]), str(backend["links"]), str(backend["in_flight"]),
    )


class _Screen:
    """The terminal while it shows nothing but `top`. Use it in a `with`."""

    def __enter__(self):
        self._input = sys.stdin.fileno()
        self._settings = termios.tcgetattr(self._input)
        tty.setcbreak(self._input)
        self._write(_OTHER_SCREEN + _HOME + "Looking ..." + _BELOW)
        return self

    def __exit__(self, *failure):
        self._write(_FIRST_SCREEN)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._settings)

    def show(self, lines):
        """As much of `lines` as there is room for."""
        height = shutil.get_terminal_size().lines
        shown = "\r\n".join(line + _END_OF_LINE for line in lines[:height - 1])
        self._write(_HOME + _NO_WRAP + shown + _BELOW + _LAST_LINE % height + _KEYS + _WRAP)

    def wait(self, duration):
        """Wait so many seconds, and longer while it is held. True if that is enough."""
        until = time.monotonic() + duration
        held = False
        while held or time.monotonic() < until:
            left = None if held else max(0.0, until - time.monotonic())
            if select.select([self._input], [], [], left)[0]:
                keys = os.read(self._input, 64)
                if not keys or b"q" in keys.lower() or _END_OF_INPUT in keys:
                    return True
                if keys.count(b" ") % 2:
                    held = not held
                    self._write(_LAST_LINE % shutil.get_terminal_size().lines + (_HELD if held else _KEYS) + _END_OF_LINE)
        return False

    @staticmethod
    def _write(text):
        sys.stdout.write(text)
        sys.stdout.flush()

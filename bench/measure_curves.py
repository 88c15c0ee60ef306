"""The rounds of a curve: each line of the plot at one x, again and again, then all of them at the next x.

Each run takes a second, and everything stays on one core: what it costs to wake another is in no point.
"""

import math
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

from contenders import running
from curves import GMPROXY, NUTCRACKER, VARIANTS, Curve
from load import LoadGenerator
from processes import Server

SECONDS = 1
RUNS_SHARE = 0.6  # of the runs of a row: there are many points, and each has neighbours


def measure_curve(curve: Curve, arguments: Namespace, generator: LoadGenerator) -> list[dict]:
    """The points: {"x": x, "cpu_us_per_op": {name of the series: a figure for each run}}."""
    runs = math.ceil(arguments.runs * RUNS_SHARE)
    points = []
    for servers, xs in groupby(curve.xs, curve.servers):
        with proxies_of(curve, arguments, servers) as proxies:
            for x in xs:
                costs = measure_point(curve, x, proxies, runs, generator)
                points.append({"x": x, "cpu_us_per_op": costs})
    return points


@contextmanager
def proxies_of(curve: Curve, arguments: Namespace, servers: int) -> Iterator[dict[str, Server]]:
    """By name, those that the curve compares, over so many servers with a backup each. gmproxy is always among them."""
    nutcracker, gmproxy = arguments.contenders[:2]
    wanted = dict.fromkeys([GMPROXY, *(series.proxy for series in curve.series)])
    contenders = [
        nutcracker if name == NUTCRACKER else replace(gmproxy, name=name, arguments=f"{gmproxy.arguments} {VARIANTS[name]}")
        for name in wanted
    ]
    backups = servers if wanted.keys() - {GMPROXY, NUTCRACKER} else 0
    with running(contenders, servers, backups) as stage:
        stage.run_on({max(os.sched_getaffinity(0))})
        yield {proxy.name: proxy for proxy in stage.proxies}


def measure_point(curve: Curve, x: int, proxies: dict[str, Server], runs: int, generator: LoadGenerator) -> dict[str, list[float]]:
    load = curve.load(x)
    generator.preload(curve.preload or load, proxies[GMPROXY])
    costs: dict[str, list[float]] = {series.name: [] for series in curve.series}
    for number in range(1, runs + 1):
        for series in curve.series:
            options = f"{series.load} --seconds {SECONDS} --warmup {curve.warmup} --seed {number}"
            sample = generator.measure(load, proxies[series.proxy], options, may_miss=bool(curve.preload))
            costs[series.name].append(round(curve.cost(x, sample["cpu_us_per_op"]), 3))
            print(f"{curve.name} {x:,} {number}/{runs} {series.name}: {costs[series.name][-1]:.2f} µs/{curve.unit}", file=sys.stderr)
    return costs

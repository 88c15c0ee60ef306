"""The rounds of a curve: each line of the plot at one x, then at the next, and all of that several times. Other load on the machine for
some time then affects one run of each point, and the median ignores it.

Each run takes a second, and all processes run on one core, so no point includes the cost of waking another core.
"""

import math
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, product

from contenders import GMPROXY, running
from curves import NUTCRACKER, VARIANTS, Curve
from load import LoadGenerator
from processes import Server

SECONDS = 1
RUNS_SHARE = 0.6  # of the runs of a row: there are many points, and each has neighbours


def measure_curve(curve: Curve, arguments: Namespace, generator: LoadGenerator) -> list[dict]:
    """The points: {"x": x, "cpu_us": {name of the series: the cost in each run}}."""
    runs = math.ceil(arguments.runs * RUNS_SHARE)
    costs = {x: {series.name: [] for series in curve.series} for x in curve.xs}
    for servers, xs in groupby(curve.xs, curve.servers):
        with proxies_of(curve, arguments, servers) as proxies:
            for number, x in product(range(1, runs + 1), list(xs)):
                for name, cost in measure_once(curve, x, proxies, number, generator):
                    costs[x][name].append(cost)
                    print(f"{curve.name} {x:,} {number}/{runs} {name}: {cost:.2f} µs/{curve.unit}", file=sys.stderr)
    return [{"x": x, "cpu_us": of_series} for x, of_series in costs.items()]


@contextmanager
def proxies_of(curve: Curve, arguments: Namespace, servers: int) -> Iterator[dict[str, Server]]:
    """The contenders that the curve compares, by name, with this number of servers and a backup for each. gmproxy is always among them."""
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


def measure_once(curve: Curve, x: int, proxies: dict[str, Server], seed: int, generator: LoadGenerator) -> Iterator[tuple[str, float]]:
    """The name of each series, and its cost at x."""
    load = curve.load(x)
    generator.preload(curve.preload or load, proxies[GMPROXY])
    for series in curve.series:
        options = f"{series.load} --seconds {SECONDS} --warmup {curve.warmup} --seed {seed}"
        sample = generator.measure(load, proxies[series.proxy], options, may_miss=bool(curve.preload))
        yield series.name, round(curve.cost(x, sample["cpu_us_per_op"]), 3)

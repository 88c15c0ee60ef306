#!/usr/bin/env python3
"""Compares gmproxy with twemproxy (nutcracker) by the CPU one operation costs. See README.md beside this file."""

import argparse
import dataclasses
import json
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from contenders import GMPROXY_ARGUMENTS, Contender, Nutcracker, Stage, Watched, running
from idle import measure_idle
from load import LoadGenerator
from mixed import measure_mixed, prepare_mixed
from processes import BenchError, end_stragglers, raise_file_limit
from report import HEADLINES, Samples, as_markdown, as_text, summary, tables
from rows import ROWS, AnyRow, IdleRow, MixedRow, Needs, Row

GMPROXY = f"{shlex.quote(sys.executable)} -m gmproxy"
RUNS = 5
QUICK_RUNS = 2
QUICK_SHARE = 5  # a quick run has a fifth of the operations


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {row.name:<21} {row.sentence}" for row in ROWS.values()),
    )
    option = parser.add_argument
    option("--rows", type=rows_by_name, default=list(ROWS.values()), metavar="A,B", help="only these rows")
    option("--runs", type=positive, metavar="N", help=f"counted runs per row and proxy (default: {RUNS})")
    option("--quick", action="store_true", help=f"{QUICK_RUNS} short runs: a smoke test, not a measurement")
    option("--gmproxy", default=GMPROXY, metavar="CMD", help="how to start gmproxy (default: %(default)s)")
    option("--gmproxy-args", default=GMPROXY_ARGUMENTS, metavar="ARGS", help="its arguments (default: %(default)s)")
    option("--also", action="append", default=[], metavar="NAME=CMD", help="a further proxy; {port}, {servers} (a,b), "
           "{server_options} (-s a -s b) and {arguments} (those of gmproxy) are filled in")  # fmt: skip
    option("--one-core", action="store_true", help="everything on one core: other figures, but steadier ones")
    option("--json", type=Path, metavar="FILE", help="write every sample and the summary there")
    option("--markdown", action="store_true", help="print the table as Markdown")
    arguments = parser.parse_args()

    arguments.runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    gmproxy = Contender("gmproxy", arguments.gmproxy + " {arguments}", arguments.gmproxy_args)
    arguments.contenders = [Nutcracker(), gmproxy]
    for also in arguments.also:
        name, _, command = also.partition("=")
        if not name or not command or name in {contender.name for contender in arguments.contenders}:
            parser.error(f"--also {also}: expected NAME=CMD with a new name")
        arguments.contenders.append(Contender(name, command, arguments.gmproxy_args))
    return arguments


def rows_by_name(names: str) -> list[AnyRow]:
    unknown = [name for name in names.split(",") if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    return [ROWS[name] for name in names.split(",")]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def measure(arguments: argparse.Namespace) -> dict[AnyRow, Samples]:
    """Rows that need the same processes are measured one after the other; the results stand in the order of the rows."""
    results = {}
    with TemporaryDirectory(prefix="gmproxy-bench-") as directory:
        bench = Bench(arguments, LoadGenerator(Path(directory)))
        for needs in dict.fromkeys(row.needs for row in arguments.rows):
            rows = [row for row in arguments.rows if row.needs == needs]
            results |= bench.measure_loads(rows, needs) if needs else bench.measure_idle(rows)
    return {row: results[row] for row in arguments.rows}


class Bench:
    def __init__(self, arguments: argparse.Namespace, generator: LoadGenerator):
        self._arguments = arguments
        self._generator = generator
        self._cores = os.sched_getaffinity(0)

    def measure_loads(self, rows: list[Row | MixedRow], needs: Needs) -> dict[AnyRow, Samples]:
        contenders = self._arguments.contenders
        if needs.watched:
            contenders = [contenders[1], Watched(contenders[1])]
        results = {}
        with running([contender.with_workers(needs.workers) for contender in contenders], needs.servers) as stage:
            for row in rows:
                stage.run_on({max(self._cores)} if row.one_core or self._arguments.one_core else self._cores)
                results[row] = self._measure_mixed(row, stage) if isinstance(row, MixedRow) else self._measure_row(row, stage)
        return results

    def measure_idle(self, rows: list[IdleRow]) -> dict[AnyRow, Samples]:
        contenders = self._arguments.contenders
        return {row: self._rounds(row, contenders, lambda contender, _: measure_idle(row, contender)) for row in rows}

    def _measure_row(self, row: Row, stage: Stage) -> Samples:
        ops = row.ops // QUICK_SHARE if self._arguments.quick else row.ops
        self._generator.preload(row.load, stage.proxies[0])
        for proxy in stage.proxies:
            self._generator.check(row.load, proxy)
        return self._rounds(row, stage.proxies, lambda proxy, seed: self._generator.measure(row.load, proxy, ops, seed))

    def _measure_mixed(self, row: MixedRow, stage: Stage) -> Samples:
        prepare_mixed(row, stage.proxies, self._generator)
        return self._rounds(row, stage.proxies, lambda proxy, seed: measure_mixed(row, proxy, self._generator, seed))

    def _rounds(self, row: AnyRow, contenders: list, measure_one: Callable[[Any, int], dict]) -> Samples:
        """The samples of each, in rounds A B A B: whatever else the machine does then falls on all of them."""
        samples: Samples = {contender.name: [] for contender in contenders}
        runs = self._arguments.runs
        for number in range(1, runs + 1):
            for contender in contenders:
                sample = measure_one(contender, number)
                samples[contender.name].append(sample)
                figure, form = HEADLINES[type(row)]
                print(f"{row.name} {number}/{runs} {contender.name}: {form.format(sample[figure])}", file=sys.stderr)
        return samples


def write_json(path: Path, results: dict[AnyRow, Samples]) -> None:
    document = {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "rows": {
            row.name: {
                "sentence": row.sentence,
                "samples": samples,
                "summary": {
                    name: {figure: dataclasses.asdict(spread) for figure, spread in figures.items()}
                    for name, figures in summary(samples).items()
                },
            }
            for row, samples in results.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the children are ended, too
    raise_file_limit()
    try:
        results = measure(arguments)
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        end_stragglers()
    print("\n\n".join((as_markdown if arguments.markdown else as_text)(lines) for lines in tables(results)))
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()

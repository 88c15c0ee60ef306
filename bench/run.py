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
from pathlib import Path
from tempfile import TemporaryDirectory

from contenders import GMPROXY_ARGUMENTS, Contender, Nutcracker, Stage, Watched, running
from load import LoadGenerator
from processes import BenchError, end_stragglers, raise_file_limit
from report import as_markdown, as_text, summary, table
from rows import ROWS, Row

GMPROXY = f"{shlex.quote(sys.executable)} -m gmproxy"
RUNS = 5
QUICK_RUNS = 2
QUICK_SHARE = 5  # a quick run has a fifth of the operations


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows:\n" + "\n".join(f"  {row.name:<20} {row.sentence}" for row in ROWS.values()),
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


def rows_by_name(names: str) -> list[Row]:
    unknown = [name for name in names.split(",") if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    return [ROWS[name] for name in names.split(",")]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def measure_row(row: Row, stage: Stage, generator: LoadGenerator, runs: int, ops: int) -> dict[str, list[dict]]:
    """The samples of each proxy, in rounds A B A B: whatever else the machine does then falls on all of them."""
    generator.preload(row, stage.proxies[0])
    for proxy in stage.proxies:
        generator.check(row, proxy)
    samples: dict[str, list[dict]] = {proxy.name: [] for proxy in stage.proxies}
    for round_number in range(1, runs + 1):
        for proxy in stage.proxies:
            sample = generator.measure(row, proxy, ops, seed=round_number)
            samples[proxy.name].append(sample)
            cost = f"{sample['cpu_us_per_op']:.2f} µs/op"
            print(f"{row.name} {round_number}/{runs} {proxy.name}: {cost}", file=sys.stderr)
    return samples


def measure(arguments: argparse.Namespace) -> dict[str, dict[str, list[dict]]]:
    results = {}
    cores = os.sched_getaffinity(0)
    with TemporaryDirectory(prefix="gmproxy-bench-") as directory:
        generator = LoadGenerator(Path(directory))
        for servers, workers, watched in sorted({(row.servers, row.workers, row.watched) for row in arguments.rows}):
            gmproxy = arguments.contenders[1]
            contenders = [gmproxy, Watched(gmproxy)] if watched else arguments.contenders
            with running([contender.with_workers(workers) for contender in contenders], servers) as stage:
                for row in (row for row in arguments.rows if (row.servers, row.workers, row.watched) == (servers, workers, watched)):
                    ops = row.ops // QUICK_SHARE if arguments.quick else row.ops
                    stage.run_on({max(cores)} if row.one_core or arguments.one_core else cores)
                    results[row.name] = measure_row(row, stage, generator, arguments.runs, ops)
    return results


def write_json(path: Path, results: dict[str, dict[str, list[dict]]]) -> None:
    document = {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "rows": {
            row: {
                "load": ROWS[row].load,
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
    lines = table(results)
    print(as_markdown(lines) if arguments.markdown else as_text(lines))
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()

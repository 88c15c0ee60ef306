#!/usr/bin/env python3
"""Measures everything and writes docs/performance/: results.json, the plots and the page. See README.md beside this file."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from command_line import names_of, new_parser, parse, run_to_the_end, table_of_rows
from curves import CURVES
from load import LoadGenerator
from measure import Bench
from measure_curves import measure_curve
from page import page, plot_name
from processes import ROOT
from results import Results, describe_machine
from rows import ROWS

DIRECTORY = ROOT / "docs" / "performance"


def parse_arguments() -> argparse.Namespace:
    curves = "curves:\n" + "\n".join(f"  {curve.name:<21} {curve.title}" for curve in CURVES.values())
    parser = new_parser(__doc__, f"{table_of_rows()}\n\n{curves}")
    option = parser.add_argument
    option("--only", type=names_of(ROWS | CURVES), default=[*ROWS, *CURVES], metavar="A,B",
           help="measure only these rows and curves; all others stay as they were measured before")  # fmt: skip
    option("--stored", dest="only", action="store_const", const=[], help="measure nothing: write the page and the plots again")
    option("--directory", type=Path, default=DIRECTORY, help="where to write (default: docs/performance)")
    return parse(parser)


def measure(arguments: argparse.Namespace, results: Results, path: Path) -> None:
    """Writes the results after each step: a long measurement that was interrupted can be continued with --only."""
    results.machine = describe_machine()
    rows = [ROWS[name] for name in arguments.only if name in ROWS]
    with TemporaryDirectory(prefix="gmproxy-bench-") as directory:
        generator = LoadGenerator(Path(directory))
        bench = Bench(arguments, generator)
        results.add_rows(bench.measure(rows), bench.syscalls)
        results.write(path)
        for name in arguments.only:
            if name in CURVES:
                results.curves[name] = measure_curve(CURVES[name], arguments, generator)
                results.write(path)


def main() -> None:
    arguments = parse_arguments()
    arguments.syscalls = True
    try:
        import plots
    except ImportError as error:
        sys.exit(f"bench: {error}: the plots need it; make bench-report installs it")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    path = arguments.directory / "results.json"
    results = Results.read(path) if path.exists() else Results.of_this_machine()
    if arguments.only:
        measure(arguments, results, path)
    for curve, points in results.points().items():
        plots.draw(curve, points, arguments.directory / plot_name(curve))
    (arguments.directory / "README.md").write_text(page(results))


if __name__ == "__main__":
    run_to_the_end(main)

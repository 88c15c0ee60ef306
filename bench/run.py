#!/usr/bin/env python3
"""Compares gmproxy with twemproxy (nutcracker) by the CPU one operation costs. See README.md beside this file."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from command_line import names_of, new_parser, parse, run_to_the_end, table_of_rows
from load import LoadGenerator
from measure import Bench
from report import as_markdown, as_text, syscall_table, tables
from results import Results
from rows import ROWS


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__, table_of_rows())
    option = parser.add_argument
    option("--rows", type=names_of(ROWS), default=list(ROWS), metavar="A,B", help="only these rows")
    option("--syscalls", action="store_true", help="count system calls per operation, too (needs strace)")
    option("--json", type=Path, metavar="FILE", help="write every sample there")
    option("--markdown", action="store_true", help="print the tables as Markdown")
    option("--against", metavar="NAME", help="the proxy that ratios refer to, instead of nutcracker; then no targets are printed")
    arguments = parse(parser)
    if arguments.against:
        if arguments.against not in {contender.name for contender in arguments.contenders}:
            parser.error(f"--against {arguments.against}: there is no such proxy")
        arguments.contenders.sort(key=lambda contender: contender.name != arguments.against)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with TemporaryDirectory(prefix="gmproxy-bench-") as directory:
        bench = Bench(arguments, LoadGenerator(Path(directory)))
        samples = bench.measure([ROWS[name] for name in arguments.rows])
    printed = tables(samples, with_targets=not arguments.against)
    if bench.syscalls:
        printed.append(syscall_table(bench.syscalls))
    print("\n\n".join((as_markdown if arguments.markdown else as_text)(lines) for lines in printed))
    if arguments.json:
        results = Results.of_this_machine()
        results.add_rows(samples, bench.syscalls)
        results.write(arguments.json)


if __name__ == "__main__":
    run_to_the_end(main)

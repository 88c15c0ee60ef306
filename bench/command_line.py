"""The options that all commands of the bench share, and how such a command starts and ends."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable

from contenders import GMPROXY, GMPROXY_ARGUMENTS, Contender, Nutcracker
from processes import BenchError, end_stragglers, raise_file_limit
from rows import ROWS

GMPROXY_COMMAND = f"{shlex.quote(sys.executable)} -m gmproxy"
RUNS = 5
QUICK_RUNS = 2


def new_parser(description: str, epilog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--runs", type=positive, metavar="N", help=f"counted runs per row and proxy (default: {RUNS})")
    option("--quick", action="store_true", help=f"{QUICK_RUNS} short runs: a smoke test, not a measurement")
    option("--gmproxy", default=GMPROXY_COMMAND, metavar="CMD", help="how to start gmproxy (default: %(default)s)")
    option("--gmproxy-args", default=GMPROXY_ARGUMENTS, metavar="ARGS", help="its arguments (default: %(default)s)")
    option("--also", action="append", default=[], metavar="NAME=CMD",
           help="a further proxy; {listen} (-p PORT, or -f PATH where clients come over a unix socket), {port}, {servers} (a,b), "
                "{server_options} (-s a -s b) and {arguments} (those of gmproxy) are filled in")  # fmt: skip
    option("--one-core", action="store_true", help="run all processes on one core: other figures, but less noise")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """With `runs` and `contenders`: nutcracker first, gmproxy second, then those of --also."""
    arguments = parser.parse_args()
    arguments.runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    gmproxy = Contender(GMPROXY, arguments.gmproxy + " {arguments}", arguments.gmproxy_args)
    arguments.contenders = [Nutcracker(), gmproxy]
    for also in arguments.also:
        name, _, command = also.partition("=")
        if not name or not command or name in {contender.name for contender in arguments.contenders}:
            parser.error(f"--also {also}: expected NAME=CMD with a new name")
        arguments.contenders.append(Contender(name, command, arguments.gmproxy_args))
    return arguments


def table_of_rows() -> str:
    return "rows:\n" + "\n".join(f"  {row.name:<21} {row.sentence}" for row in ROWS.values())


def names_of(table: dict) -> Callable[[str], list[str]]:
    """The parser of an option whose value is A,B: names that `table` contains."""

    def parse_names(names: str) -> list[str]:
        unknown = [name for name in names.split(",") if name not in table]
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are: {', '.join(table)}")
        return names.split(",")

    return parse_names


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run_to_the_end(command: Callable[[], None]) -> None:
    """Run `command`. Its child processes are ended however it ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise_file_limit()
    try:
        command()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        end_stragglers()

"""The commands gmproxy, magent and nutcracker: the first instructions. All else is in startup.py, which takes some time to import."""

import sys

from gmproxy.system import bootstrap


def main(arguments: list[str] | None = None) -> int:
    """The command gmproxy. Returns its exit status."""
    return _command("gmproxy", arguments)


def magent(arguments: list[str] | None = None) -> int:
    """The command magent: the same program with magent's defaults and replies. Returns its exit status."""
    return _command("magent", arguments)


def nutcracker(arguments: list[str] | None = None) -> int:
    """The command nutcracker: the same program with nutcracker's command line, stats port and signals. Returns its exit status."""
    return _command("nutcracker", arguments)


def _command(program: str, arguments: list[str] | None) -> int:
    bootstrap.hold_signals()
    bootstrap.open_standard_descriptors()
    from gmproxy import startup  # only now: a signal that comes meanwhile is held

    try:
        try:
            return startup.run_command_line(program, program, arguments)
        finally:
            sys.stdout.flush()  # also after --help, which exits
    except BrokenPipeError:
        bootstrap.discard_output()
        return 0

"""The entry points of the commands gmproxy, magent and nutcracker.

They hold signals first, and only then import startup.py, which takes some tenths of a second.
"""

import sys

from gmproxy.system import bootstrap


def main(arguments: list[str] | None = None) -> int:
    """The command gmproxy. Returns its exit status."""
    return _command("gmproxy", arguments)


def magent(arguments: list[str] | None = None) -> int:
    """The command magent: emulates magent's defaults and replies. Returns its exit status."""
    return _command("magent", arguments)


def nutcracker(arguments: list[str] | None = None) -> int:
    """The command nutcracker: emulates nutcracker's command line, stats port and signals. Returns its exit status."""
    return _command("nutcracker", arguments)


def _command(program: str, arguments: list[str] | None) -> int:
    bootstrap.hold_signals()
    bootstrap.open_standard_descriptors()
    from gmproxy import startup  # not earlier: signals that arrive during the import are held

    try:
        try:
            return startup.run_command_line(program, program, arguments)
        finally:
            sys.stdout.flush()  # also after --help, which exits
    except BrokenPipeError:
        bootstrap.discard_output()
        return 0

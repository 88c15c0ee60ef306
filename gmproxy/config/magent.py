"""Emulation of magent 0.6: its help, and the command lines that it accepts although gmproxy refuses them. With `compat = magent` they are
accepted, with a warning."""

import argparse
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy.config.settings import Setting, option_name
from gmproxy.errors import StartError
from gmproxy.system import daemon

#: The output of `magent -h`, with a placeholder for the time of the build.
HELP = """\
memcached agent v0.6 Build-Date: {built}
Usage:
  -h this message
  -u uid
  -g gid
  -p port, default is 11211. (0 to disable tcp support)
  -s ip:port, set memcached server ip and port
  -b ip:port, set backup memcached server ip and port
  -l ip, local bind ip address, default is 0.0.0.0
  -n number, set max connections, default is 4096
  -D don't go to background
  -k use ketama key allocation algorithm
  -f file, unix socket path to listen on. default is off
  -i number, set max keep alive connections for one memcached server, default is 20
  -v verbose"""

#: Exit status of `magent -h`.
HELP_STATUS = 1

#: {setting: maximum} of the numbers for which magent uses its default if they are not positive numbers, and which have no maximum there.
LENIENT_NUMBERS = {"server_connections": 1024, "max_connections": 1_000_000}


def help_text() -> str:
    """magent's help; the build date is the modification time of this file."""
    return HELP.format(built=time.strftime("%b %e %Y %H:%M:%S", time.localtime(os.stat(__file__).st_mtime)))


class Help(argparse.Action):
    """--help, and -h. For the command magent, and after --compat magent, -h prints magent's help."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        if option_string == "-h" and "magent" in (parser.prog, namespace.compat):
            parser.exit(HELP_STATUS, f"{help_text()}\n")
        parser.print_help()
        parser.exit()


class Tolerated:
    """Parts of a command line that only magent accepts, collected while it is parsed, when the emulated program is not known yet.

    warnings   a line for each: what is done instead
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._error: str | None = None  # the first, for programs other than magent

    def number(self, setting: Setting) -> Callable[[str], Any]:
        """`setting.parse`, but accepting any text, as magent does."""

        def parse(value: str) -> Any:
            try:
                return setting.parse(value)
            except ValueError as error:
                number = as_number(value)
                used = min(number, LENIENT_NUMBERS[setting.name]) if number > 0 else int(setting.default)
                self._add(f"{setting.flag} {value}: {used} is used", f"argument {setting.flag}/{option_name(setting)}: {error}")
                return used

        return parse

    def operands(self, words: Sequence[str], unrecognized: str) -> None:
        """Note arguments that belong to no option. `unrecognized`: the text with which argparse reports them."""
        if words:
            self._add(f"ignored: {' '.join(words)}", f"{unrecognized}{' '.join(words)}")

    def error_unless_magent(self, compat: str) -> str | None:
        """The error that argparse would have raised for what was collected; None if nothing was, or if `compat` is magent."""
        return None if compat == "magent" else self._error

    def _add(self, warning: str, error: str) -> None:
        self._error = self._error or error
        if warning not in self.warnings:
            self.warnings.append(warning)


def as_number(text: str) -> int:
    """As atoi(3): the number at the beginning of `text`, or 0."""
    found = re.match(r"\s*([+-]?[0-9]{1,20})", text)  # Python refuses to convert much longer numbers, and these are too large anyway
    return int(found[1]) if found else 0


def changed_settings(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """({name: value} of settings that magent accepts and gmproxy must replace, a list of warnings about these and about differences from
    magent). `values`: all settings."""
    changed: dict[str, Any] = {}
    warnings: list[str] = []
    for name, flag in (("user", "-u"), ("group", "-g")):
        if values[name]:
            instead, why = _usable_account(name, values[name])
            if why:
                changed[name] = instead
                warnings.append(f"{flag} {values[name]}: {why}")
    servers = len(values["server"])
    if values["ketama"] and servers > 1:
        warnings.append(
            f"-k moves keys: magent 0.6 -k has nearly all keys on one server, here each of the {servers} servers has its share; to keep the keys "
            "where they are, replace -k by --distribution magent-ketama-0.6"
        )
    return changed, warnings


def _usable_account(name: str, value: str) -> tuple[str, str]:
    """(the value to use for the setting `name`, a warning or ""). magent calls setuid(atoi(value)) and ignores the result."""
    try:
        number = daemon.user_ids(value, "")[0] if name == "user" else daemon.user_ids("", value)[1]
    except StartError:
        if name == "user" and daemon.is_id(value) and int(value) and os.getuid() in (0, int(value)):  # the latter at a reload
            return f"+{value}", "no such user; the process changes to this user ID and keeps its group"
        return "", f"no such {name}; the process keeps its {name}"
    if os.getuid() != 0 and number != (os.getuid() if name == "user" else os.getgid()):
        return "", f"only root can change the {name}; the process keeps it"
    return value, ""

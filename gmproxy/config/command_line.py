"""The command line: an option for each row of the settings table, read by ConfigArgParse together with environment and file."""

import argparse
import shutil
from collections.abc import Callable
from typing import Any, NoReturn

import configargparse

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config import magent
from gmproxy.config.environment import PREFIX
from gmproxy.config.settings import GROUPS, SETTINGS, Setting, option_name, servers, yes_or_no
from gmproxy.config.settings_file import SettingsFile, open_file
from gmproxy.config.suggestions import UNRECOGNIZED, explained
from gmproxy.errors import ConfigError

#: Options of the command line that are no settings.
ACTIONS = ("test_conf", "print_config", "print_sample_config", "print_systemd_unit", "demo", "list_profiles")

#: Those for which no server need be named.
NEEDING_NO_SERVER = {"print_sample_config", "print_systemd_unit", "demo", "list_profiles"}


class ArgumentParser(configargparse.ArgumentParser):
    """Raises ConfigError with one clear line for a mistake, instead of printing it.

    tolerated   what only magent takes in the command line that was parsed: who parses it asks whether that is emulated
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tolerated = magent.Tolerated()

    def parse_args(self, *args: Any, **options: Any) -> Any:
        parsed, rest = self.parse_known_args(*args, **options)
        unknown = [word for word in rest if word.startswith("-") and word != "-"]
        if unknown:
            self.error(UNRECOGNIZED + " ".join(unknown))
        self.tolerated.operands(rest, UNRECOGNIZED)
        return parsed

    def error(self, message: str) -> NoReturn:
        if message.startswith("Unable to open config file: "):
            message = message.rpartition(" Error: ")[2]  # what `open_file` says
        raise ConfigError(explained(message.removeprefix("argument "), self._option_string_actions))


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=36, width=min(shutil.get_terminal_size().columns, 110))


def parser_for(program: str) -> ArgumentParser:
    """The command line of `program`."""
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} -s HOST:PORT [-s HOST:PORT ...] [-b HOST:PORT ...] [options]",
        description="A memcached proxy: many servers look like one.",
        epilog="Every option may also stand in the file given with -c, as name = value, or in the environment as GMPROXY_NAME.",
        config_file_parser_class=SettingsFile,
        config_file_open_func=open_file,
        auto_env_var_prefix=PREFIX,
        add_config_file_help=False,
        add_env_var_help=False,
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    for group in GROUPS:
        section = parser.add_argument_group(group)
        for setting in SETTINGS.values():
            if setting.group == group:
                _add_option(parser, section, setting)
    section = parser.add_argument_group("Other")
    section.add_argument("-c", "--config", is_config_file=True, metavar="FILE", help="read settings from this file")
    section.add_argument("-t", "--test-conf", action="store_true", help="check the configuration and exit")
    section.add_argument("--print-config", action="store_true", help="print the effective configuration and exit")
    section.add_argument("--print-sample-config", action="store_true", help="print a configuration file with every setting and exit")
    section.add_argument(
        "--print-systemd-unit", action="store_true", help="print a unit file with which systemd runs this gmproxy and exit"
    )
    section.add_argument("--list-profiles", action="store_true", help="print what --profile can be and exit")
    section.add_argument("--demo", action="store_true", help="start three local memcached servers and a proxy over them")
    section.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"gmproxy {__version__} ({BUILD} build)",
        help="print the version and which build of the hot modules answers",
    )
    section.add_argument("-h", "--help", action=magent.Help, nargs=0, default=argparse.SUPPRESS, help="print this and exit")
    return parser


def _add_option(parser: ArgumentParser, section: Any, setting: Setting) -> None:
    names = [name for name in (setting.flag, option_name(setting)) if name]
    default = f" (default {setting.default})" if setting.default not in ("", "no") else ""
    options: dict[str, Any] = {"dest": setting.name, "default": None, "help": (setting.sentence + default).replace("%", "%%")}
    if setting.parse is yes_or_no and setting.default == "no":
        section.add_argument(*names, action="store_true", **options)
    else:
        if setting.parse is servers:
            options["action"] = "append"
        if setting.name == "pools":
            names.append("--conf-file")  # nutcracker's name for it
        parse = parser.tolerated.number(setting) if setting.name in magent.LENIENT_NUMBERS else setting.parse
        section.add_argument(*names, type=_checked(parse), metavar=setting.metavar, **options)


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` with errors in the words of the table, not of argparse."""

    def parse_value(value: str) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value

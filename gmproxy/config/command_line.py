"""The command line: an option for each row of the settings table. ConfigArgParse reads it together with the environment and the file."""

import argparse
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import configargparse

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config import magent
from gmproxy.config.environment import PREFIX
from gmproxy.config.settings import GROUPS, REPEATED, SETTINGS, UNITS, Setting, option_name
from gmproxy.config.settings_file import SettingsFile, open_file
from gmproxy.config.suggestions import UNRECOGNIZED, explained
from gmproxy.errors import ConfigError

#: Options of the command line that are not settings, by their `dest`.
ACTIONS = ("test_conf", "print_config", "print_sample_config", "print_systemd_unit", "demo", "list_profiles")

#: Those that need no server.
NEEDING_NO_SERVER = {"print_sample_config", "print_systemd_unit", "demo", "list_profiles"}


#: Characters in a line of the help, and the column in which the descriptions begin.
WIDTH = 80
HELP_COLUMN = 30

EPILOG = "Each setting can also be given in the file of -c, as name = value, or in the environment, as GMPROXY_NAME."

if TYPE_CHECKING:  # configargparse has no annotations
    _ArgumentParser = argparse.ArgumentParser
else:
    _ArgumentParser = configargparse.ArgumentParser


class ArgumentParser(_ArgumentParser):
    """Raises ConfigError with a message of one line for a mistake, instead of printing it.

    lines       {name of a setting: file and line of each of its values} of the configuration file
    tolerated   what the parsed command line has that only magent accepts: an error, unless the caller finds that magent is emulated
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lines: dict[str, list[str]] = {}
        # ConfigArgParse wants a class, and makes an object of it.
        options["config_file_parser_class"] = type("SettingsFile", (SettingsFile,), {"lines": self.lines})
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
            message = message.rpartition(" Error: ")[2]  # the message of `open_file`
        raise ConfigError(explained(message.removeprefix("argument "), self._option_string_actions))


class _Formatter(argparse.HelpFormatter):
    """Lines of at most WIDTH characters, with the placeholder of a value once: -p, --port PORT."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=HELP_COLUMN, width=min(shutil.get_terminal_size().columns, WIDTH))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or not action.metavar:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {action.metavar}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Each line of `text` begins a line of the help."""
        return "\n".join(super(_Formatter, self)._fill_text(line, width, indent) for line in text.splitlines())


class _HelpAll(argparse.Action):
    """--help-all: prints all options and exits."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        parser_for(parser.prog, help_all=True).print_help()
        parser.exit()


def parser_for(program: str, help_all: bool = False) -> ArgumentParser:
    """The command line of `program`. Its help has the common options, or with `help_all` all of them."""
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} -s HOST:PORT [-s HOST:PORT ...] [-b HOST:PORT ...] [options]",
        description="A memcached proxy: clients see one memcached, with many memcached servers behind it.",
        epilog=EPILOG if help_all else f"{EPILOG}\n{program} --help-all shows all options.",
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
                _add_option(parser, section, setting, help_all)
    _add_actions(parser.add_argument_group("Other"), help_all)
    return parser


def _add_actions(section: Any, help_all: bool) -> None:
    """The options that are not settings."""

    def rare(description: str) -> str:
        return description if help_all else argparse.SUPPRESS

    section.add_argument("-c", "--config", is_config_file=True, metavar="FILE", help="read settings from this file")
    section.add_argument("-t", "--test-conf", action="store_true", help="check the configuration and exit")
    section.add_argument("--print-config", action="store_true", help=rare("print the effective configuration and exit"))
    section.add_argument("--print-sample-config", action="store_true", help=rare("print a configuration file with all settings and exit"))
    section.add_argument("--print-systemd-unit", action="store_true", help=rare("print a systemd unit for this installation and exit"))
    section.add_argument(
        "--list-profiles", action="store_true", help=rare("print the client libraries and proxies that --profile knows and exit")
    )
    section.add_argument(
        "--demo", action="store_true", help=rare("start three memcached servers on this host and gmproxy in front of them")
    )
    section.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"gmproxy {__version__} ({BUILD} build)",
        help="print the version and the build (compiled or pure) and exit",
    )
    section.add_argument(
        "-h",
        "--help",
        action=magent.Help,
        nargs=0,
        default=argparse.SUPPRESS,
        help=f"print {'the common' if help_all else 'these'} options and exit",
    )
    section.add_argument("--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help="print all options and exit")


def _add_option(parser: ArgumentParser, section: Any, setting: Setting, help_all: bool) -> None:
    names = [name for name in (setting.flag, option_name(setting)) if name]
    details = [UNITS.get(setting.metavar, ""), f"default {setting.default}" if setting.default not in ("", "no") else ""]
    in_brackets = ", ".join(filter(None, details))
    text = f"{setting.description} ({in_brackets})" if in_brackets else setting.description
    options: dict[str, Any] = {"dest": setting.name, "default": None}
    options["help"] = text.replace("%", "%%") if help_all or setting.common else argparse.SUPPRESS
    if not setting.metavar:
        section.add_argument(*names, action="store_true", **options)
    else:
        if setting.name in REPEATED:
            options["action"] = "append"
        if setting.name == "pools":
            names.append("--conf-file")  # nutcracker's name for it
        parse = parser.tolerated.number(setting) if setting.name in magent.LENIENT_NUMBERS else setting.parse
        section.add_argument(*names, type=_checked(parse), metavar=setting.metavar, **options)


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse`, for argparse: the message of an error is that of the ValueError, without argparse's own words."""

    def parse_value(value: str) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value

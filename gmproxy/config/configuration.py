"""From command line, environment and file to one frozen, checked Config.

The nearest wins: command line, environment (GMPROXY_NAME), file, default. Names come from the settings table alone; one that is
not there is an error with file and line.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn

import configargparse

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config import credentials, nutcracker
from gmproxy.config.settings import (
    CREDENTIALS,
    GROUPS,
    LISTS,
    POOL_SETTINGS,
    SETTINGS,
    TYPED_IN,
    Setting,
    option_name,
    render,
    servers,
    yes_or_no,
)
from gmproxy.errors import ConfigError
from gmproxy.placement import builder
from gmproxy.placement.server_spec import Server

if TYPE_CHECKING:

    class Config:
        """A frozen dataclass; its fields are made from the settings table, which a type checker cannot read."""

        __dataclass_fields__: ClassVar[dict[str, Any]]
        name: str

        def __init__(self, name: str, **settings: Any) -> None: ...
        def __getattr__(self, setting: str) -> Any: ...

else:
    Config = dataclasses.make_dataclass("Config", ["name", *SETTINGS], frozen=True)
    Config.__doc__ = """The checked settings of one pool and of the process: an attribute for each row of the settings table.

`name` is that of the pool, "" where the command line is the only one. Times are in seconds.
"""

#: Options of the command line that are no settings.
ACTIONS = ("test_conf", "print_config", "demo", "list_profiles")

YAML = (".yml", ".yaml")

#: The name of the only pool, where each needs one.
UNNAMED = "default"


def parse(
    arguments: Iterable[str], environment: Mapping[str, str], program: str = "gmproxy", compat: str = "gmproxy"
) -> tuple[list[Config], set[str]]:
    """([Config of each pool], set of ACTIONS requested), from `arguments` (without the program's name) and `environment`.

    Raises ConfigError. Prints and raises SystemExit(0) for --help and --version.
    """
    source = ConfigSource(arguments, environment, program, compat)
    return source.load(), source.actions


class ConfigSource:
    """What the process was started with, to be read again at a reload: the same command line and environment, the files as they are then."""

    def __init__(self, arguments: Iterable[str], environment: Mapping[str, str], program: str = "gmproxy", compat: str = "gmproxy") -> None:
        self._arguments = list(arguments)
        self.environment = dict(environment)
        self._program = program
        self._compat = compat
        self.actions: set[str] = set()
        self.files: list[str] = []  # that were read

    def load(self) -> list[Config]:
        """The Config of each pool; sets `actions` and `files`. Raises ConfigError."""
        parsed = read_arguments(parser_for(self._program), self._arguments, self.environment)
        self.actions = {action for action in ACTIONS if parsed[action]}
        configs = make_configs(parsed, self._compat, servers_needed=not self.actions & {"demo", "list_profiles"})
        named = parsed["config"] and os.path.join(TYPED_IN, parsed["config"])
        secrets = [str(getattr(config, name)) for config in configs for name in CREDENTIALS]
        self.files = [file for file in dict.fromkeys([named, configs[0].pools, *secrets]) if file]
        return configs


def read_arguments(parser: ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """{name: value, or None where none is set}, of command line, environment and file. Raises ConfigError."""
    try:
        if environment.get("GMPROXY_CONFIG"):  # first, so that -c on the command line wins
            arguments = ["-c", environment["GMPROXY_CONFIG"], *arguments]
        environment = _plain_switches(environment)
        parsed = vars(parser.parse_args(arguments, env_vars=environment))
        typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration file is not text: {error}") from None
    for name in _switched_off(environment):
        if parsed[name] and not typed[name]:  # older ConfigArgParse (1.5.3) prefers a yes of the file to a no of the environment
            parsed[name] = False
    if parsed["config"] and parsed["config"].endswith(YAML):
        parsed["pools"] = parsed["config"]
    return parsed


def make_configs(parsed: Mapping[str, Any], compat: str = "gmproxy", servers_needed: bool = True) -> list[Config]:
    """The Config of each pool, made of what `read_arguments` returned and of defaults. Raises ConfigError."""
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        value = parsed[name]
        if value is None:
            default = setting.default if name != "compat" else compat
            value = [] if name in LISTS else setting.parse(default)
        elif name in LISTS:
            value = [server for part in value for server in part]
        values[name] = value
    if not values["pools"]:
        config = Config(name="", **values)
        _check(config, servers_needed)
        return [config]
    for name in POOL_SETTINGS:
        if parsed[name] is not None:
            raise ConfigError(f"{name} cannot stand beside a file of pools: it belongs into each pool")
    configs = []
    for pool in nutcracker.read_pools(values["pools"]):
        config = Config(name=pool.name, **(values | pool.settings))
        try:
            _check(config)
        except ConfigError as error:
            pool.refuse(None, error)
        configs.append(config)
    return configs


def as_plain(config: Config) -> dict[str, Any]:
    """`config` as what JSON can hold, for `from_plain`."""
    lists = {name: [dataclasses.asdict(server) for server in getattr(config, name)] for name in LISTS}
    secrets = {name: getattr(config, name).as_plain() for name in CREDENTIALS if getattr(config, name)}
    return {**vars(config), **lists, **secrets}


def from_plain(plain: Mapping[str, Any]) -> Config:
    lists = {name: [Server(**server) for server in plain[name]] for name in LISTS}
    secrets = {name: credentials.from_plain(plain[name]) for name in CREDENTIALS if plain[name]}
    return Config(**{**plain, **lists, **secrets})


def describe(configs: Sequence[Config]) -> str:
    """`configs` as a configuration file from which the same would be read."""
    if configs[0].name:
        return "\n\n".join(map(_describe_pool, configs))
    return "\n".join(_lines(configs[0], SETTINGS, "{name} = {value}"))


def _describe_pool(config: Config) -> str:
    lines = [f"{_quoted(config.name)}:", f"  listen: {config.unix_socket or f'{config.listen}:{config.port}'} {config.unix_mode}".rstrip()]
    hidden = ("server", "backup", "listen", "port", "unix_socket", "unix_mode")
    lines += _lines(config, [name for name in POOL_SETTINGS if name not in hidden], "  {name}: {value}", _quoted)
    for key, listed in (("servers", config.server), ("backups", config.backup)):
        if listed:
            lines.append(f"  {key}:")
            lines += [f"    - {_quoted(render(SETTINGS['server'], [server]))}" for server in listed]
    return "\n".join(lines)


def _lines(config: Config, names: Iterable[str], form: str, quoted: Callable[[str], str] = str) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        line = form.format(name=name, value=quoted(render(SETTINGS[name], value))).rstrip()
        yield f"# {line}" if value in ("", []) else line


def _quoted(value: str) -> str:
    """`value` so that YAML takes it for text."""
    return value if re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./:-]*( [A-Za-z0-9_.-]+)?|", value) else json.dumps(value)


def _plain_switches(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with every yes, on, 1 ... of a switch written as all versions of ConfigArgParse understand it."""
    plain = dict(environment)
    for name, setting in SETTINGS.items():
        variable = "GMPROXY_" + name.upper()
        if setting.parse is yes_or_no and variable in plain:
            try:
                plain[variable] = _switch(yes_or_no(plain[variable]))
            except ValueError as error:
                raise ConfigError(f"{variable}: {error}") from None
    return plain


def _switch(value: bool) -> str:
    return "true" if value else "false"


def _switched_off(environment: Mapping[str, str]) -> list[str]:
    """The names of the switches to which `environment`, after _plain_switches, says no."""
    return [
        name
        for name, setting in SETTINGS.items()
        if setting.parse is yes_or_no and environment.get("GMPROXY_" + name.upper()) == _switch(False)
    ]


def placement_for(config: Config, servers: Sequence[Server], live: Collection[int] | None = None) -> builder.Placement:
    """The gmproxy.placement.builder.Placement of keys on `servers`, of which only the indexes `live` take part. Raises ConfigError."""
    distribution = "magent-ketama" if config.ketama else config.distribution
    try:
        return builder.build(
            servers,
            distribution,
            config.hash,
            config.hash_tag,
            profile=config.profile,
            live=live,
            **{name: getattr(config, name) for name in builder.SETTINGS},
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _check(config: Config, servers_needed: bool = True) -> None:
    """Check what concerns several settings together. Raises ConfigError."""
    if not config.server and servers_needed:
        raise ConfigError("no server: say at least one with -s HOST:PORT")
    if config.port == 0 and not config.unix_socket:
        raise ConfigError("nothing to listen on: port is 0 and there is no unix socket (-f)")
    if config.ketama and (config.distribution or config.profile):
        raise ConfigError("ketama (-k) is a choice of distribution itself: it cannot stand beside distribution or profile")
    if config.server_auth_file and config.backend_protocol == "text" and any(b" " in word for word in config.server_auth_file.single()):
        raise ConfigError(
            f"{config.server_auth_file}: a blank in a user or password cannot be said in text: server_auth_file, backend_protocol"
        )
    for listed in filter(None, (config.server, config.backup)):
        placement_for(config, listed)


# -- ConfigArgParse, fed from the table


class _File(configargparse.ConfigFileParser):
    """`name = value`, # and ; begin a comment. Every line is checked against the table while its number is known."""

    def get_syntax_description(self) -> str:
        return "Configuration file: name = value; # begins a comment."

    def parse(self, stream: IO[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        where = getattr(stream, "name", "configuration")
        if where.endswith(YAML):
            return values  # a file of pools: read in its own way
        for number, line in enumerate(_text_lines(stream, where), 1):
            line = line.split(" # ")[0].strip()
            if not line or line[0] in "#;":
                continue
            name, equals, value = (part.strip() for part in line.partition("="))
            name = name.lower().replace("-", "_")
            setting = SETTINGS.get(name)
            if setting is None:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {_unknown(line, name)}")
            if not equals:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name} has no value: write {name} = ...")
            if name in values and name not in LISTS:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name} is set twice")
            try:
                checked = setting.parse(value) if value else None
            except ValueError as error:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name}: {error}") from None
            if value:
                self._store(values, name, value, checked)
        return values

    @staticmethod
    def _store(values: dict[str, Any], name: str, value: str, checked: Any) -> None:
        if name in LISTS:
            values.setdefault(name.replace("_", "-"), []).append(value)
        else:
            values[name.replace("_", "-")] = _switch(checked) if isinstance(checked, bool) else value


def _text_lines(stream: IO[str], where: str) -> Iterator[str]:
    """The lines of the file `where`. Raises ConfigError if it is no text."""
    try:
        yield from stream
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not a text file") from None


def _unknown(line: str, name: str) -> str:
    """What is wrong with a line that begins with no setting, and what may have been meant."""
    if line.startswith("["):
        return f"there are no sections here: leave out {line!r}"
    first, _, rest = line.partition(" ")
    if first in SETTINGS:
        return f"an equals sign is missing: write {first} = {rest.strip()}"
    alike = difflib.get_close_matches(name, SETTINGS, 1)
    return f"there is no setting {name!r}" + (f": did you mean {alike[0]}?" if alike else "")


def _open(name: str) -> IO[str]:
    """As `open`, from where the command was typed, but known by `name` as it is. Raises ConfigError."""
    try:
        return open(name, opener=lambda path, flags: os.open(os.path.join(TYPED_IN, path), flags))
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None


class ArgumentParser(configargparse.ArgumentParser):
    """Raises ConfigError with one clear line for a mistake, instead of printing it."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("Unable to open config file: "):
            message = message.rpartition(" Error: ")[2]  # what `_open` says
        raise ConfigError(message)


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
        config_file_parser_class=_File,
        config_file_open_func=_open,
        auto_env_var_prefix="GMPROXY_",
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
                _add_option(section, setting)
    section = parser.add_argument_group("Other")
    section.add_argument("-c", "--config", is_config_file=True, metavar="FILE", help="read settings from this file")
    section.add_argument("-t", "--test-conf", action="store_true", help="check the configuration and exit")
    section.add_argument("--print-config", action="store_true", help="print the effective configuration and exit")
    section.add_argument("--list-profiles", action="store_true", help="print what --profile can be and exit")
    section.add_argument("--demo", action="store_true", help="start three local memcached servers and a proxy over them")
    section.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"gmproxy {__version__} ({BUILD} build)",
        help="print the version and which build of the hot modules answers",
    )
    section.add_argument("-h", "--help", action="help", help="print this and exit")
    return parser


def _add_option(section: Any, setting: Setting) -> None:
    names = [name for name in (setting.flag, option_name(setting)) if name]
    default = f" (default {setting.default})" if setting.default not in ("", "no") else ""
    options: dict[str, Any] = {"dest": setting.name, "default": None, "help": (setting.sentence + default).replace("%", "%%")}
    if setting.parse is yes_or_no and setting.default == "no":
        section.add_argument(*names, action="store_true", **options)
    else:
        if setting.parse is servers:
            options["action"] = "append"
        section.add_argument(*names, type=_checked(setting), metavar=setting.metavar, **options)


def _checked(setting: Setting) -> Callable[[str], Any]:
    """`setting.parse` with errors in the words of the table, not of argparse."""

    def parse_value(value: str) -> Any:
        try:
            return setting.parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value

"""From command line, environment and file to one frozen, checked Config.

The nearest wins: command line, environment (GMPROXY_NAME), file, default. Names come from the settings table alone; one that is
not there is an error that tells file and line.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil

import configargparse

from gmproxy import __version__
from gmproxy.compiled import BUILD
from gmproxy.config import credentials, nutcracker
from gmproxy.config.settings import (
    GROUPS,
    LISTS,
    POOL_SETTINGS,
    SETTINGS,
    TYPED_IN,
    USERS,
    option_name,
    render,
    servers,
    yes_or_no,
)
from gmproxy.errors import ConfigError
from gmproxy.placement import builder
from gmproxy.placement.server_spec import Server

Config = dataclasses.make_dataclass("Config", ["name", *SETTINGS], frozen=True)
Config.__doc__ = """The checked settings of one pool and of the process: an attribute for each row of the settings table.

`name` is that of the pool, "" where the command line is the only one. Times are in seconds.
"""

#: What a command line can ask for besides settings.
ACTIONS = ("test_conf", "print_config", "demo", "list_profiles")

YAML = (".yml", ".yaml")

#: How the only pool is called where each has a name.
UNNAMED = "default"


def parse(arguments, environment, program="gmproxy", compat="gmproxy"):
    """([Config of each pool], set of ACTIONS asked for), from `arguments` (without the program's name) and `environment`.

    Raises ConfigError. Prints and raises SystemExit(0) for --help and --version.
    """
    source = Source(arguments, environment, program, compat)
    return source.read(), source.actions


class Source:
    """What the process was started with, to be read again: the same command line and environment, the files as they are by then."""

    def __init__(self, arguments, environment, program="gmproxy", compat="gmproxy"):
        self._arguments = list(arguments)
        self.environment = dict(environment)
        self._program = program
        self._compat = compat
        self.actions = set()
        self.files = []  # that were read

    def read(self):
        """The Config of each pool; notes the `actions` asked for and the `files` read. Raises ConfigError."""
        given = read_arguments(parser_for(self._program), self._arguments, self.environment)
        self.actions = {action for action in ACTIONS if given[action]}
        found = configs(given, self._compat, servers_needed=not self.actions & {"demo", "list_profiles"})
        named = given["config"] and os.path.join(TYPED_IN, given["config"])
        secrets = [str(getattr(config, name)) for config in found for name in USERS]
        self.files = [file for file in dict.fromkeys([named, found[0].pools, *secrets]) if file]
        return found


def read_arguments(parser, arguments, environment):
    """What was given: {name: value, or None where nothing was said}."""
    try:
        if environment.get("GMPROXY_CONFIG"):  # first, so that -c on the command line wins
            arguments = ["-c", environment["GMPROXY_CONFIG"], *arguments]
        environment = _plain_switches(environment)
        given = vars(parser.parse_args(arguments, env_vars=environment))
        typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration file is not text: {error}") from None
    for name in _switched_off(environment):
        if given[name] and not typed[name]:  # older ConfigArgParse (1.5.3) hears a yes of the file over a no of the environment
            given[name] = False
    if given["config"] and given["config"].endswith(YAML):
        given["pools"] = given["config"]
    return given


def configs(given, compat="gmproxy", servers_needed=True):
    """The Config of each pool, made of what was `given` and of defaults. Raises ConfigError."""
    values = {}
    for name, setting in SETTINGS.items():
        value = given[name]
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
        if given[name] is not None:
            raise ConfigError(f"{name} cannot stand beside a file of pools: it belongs into each pool")
    found = []
    for pool in nutcracker.read(values["pools"]):
        config = Config(name=pool.name, **(values | pool.settings))
        try:
            _check(config)
        except ConfigError as error:
            pool.refuse(None, error)
        found.append(config)
    return found


def as_plain(config):
    """`config` as what JSON can hold, for `from_plain`."""
    lists = {name: [dataclasses.asdict(server) for server in getattr(config, name)] for name in LISTS}
    secrets = {name: getattr(config, name).as_plain() for name in USERS if getattr(config, name)}
    return {**vars(config), **lists, **secrets}


def from_plain(plain):
    lists = {name: [Server(**server) for server in plain[name]] for name in LISTS}
    secrets = {name: credentials.from_plain(plain[name]) for name in USERS if plain[name]}
    return Config(**{**plain, **lists, **secrets})


def describe(configs):
    """`configs` as a file that would give the same."""
    if configs[0].name:
        return "\n\n".join(map(_describe_pool, configs))
    return "\n".join(_lines(configs[0], SETTINGS, "{name} = {value}"))


def _describe_pool(config):
    lines = [f"{_quoted(config.name)}:", f"  listen: {config.unix_socket or f'{config.listen}:{config.port}'} {config.unix_mode}".rstrip()]
    hidden = ("server", "backup", "listen", "port", "unix_socket", "unix_mode")
    lines += _lines(config, [name for name in POOL_SETTINGS if name not in hidden], "  {name}: {value}", _quoted)
    for key, listed in (("servers", config.server), ("backups", config.backup)):
        if listed:
            lines.append(f"  {key}:")
            lines += [f"    - {_quoted(render(SETTINGS['server'], [server]))}" for server in listed]
    return "\n".join(lines)


def _lines(config, names, form, quoted=str):
    for name in names:
        value = getattr(config, name)
        line = form.format(name=name, value=quoted(render(SETTINGS[name], value))).rstrip()
        yield f"# {line}" if value in ("", []) else line


def _quoted(value):
    """`value` so that YAML takes it for text."""
    return value if re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./:-]*( [A-Za-z0-9_.-]+)?|", value) else json.dumps(value)


def _plain_switches(environment):
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


def _switch(value):
    return "true" if value else "false"


def _switched_off(environment):
    """The names of the switches to which `environment`, after _plain_switches, says no."""
    return [name for name, setting in SETTINGS.items()
            if setting.parse is yes_or_no and environment.get("GMPROXY_" + name.upper()) == _switch(False)]


def placement_for(config, servers, live=None):
    """The gmproxy.placement.builder.Placement of keys on `servers`, of which only the indexes `live` take part. Raises ConfigError."""
    distribution = "magent-ketama" if config.ketama else config.distribution
    try:
        return builder.build(
            servers, distribution, config.hash, config.hash_tag, profile=config.profile, live=live,
            **{name: getattr(config, name) for name in builder.SETTINGS},
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _check(config, servers_needed=True):
    """What no single setting can tell. Raises ConfigError."""
    if not config.server and servers_needed:
        raise ConfigError("no server: say at least one with -s HOST:PORT")
    if config.port == 0 and not config.unix_socket:
        raise ConfigError("nothing to listen on: port is 0 and there is no unix socket (-f)")
    if config.ketama and (config.distribution or config.profile):
        raise ConfigError("ketama (-k) is a choice of distribution itself: it cannot stand beside distribution or profile")
    if config.server_auth_file and config.backend_protocol == "text" and any(b" " in word for word in config.server_auth_file.only()):
        raise ConfigError(f"{config.server_auth_file}: a blank in a user or password cannot be said in text: server_auth_file, backend_protocol")
    for listed in filter(None, (config.server, config.backup)):
        placement_for(config, listed)


# -- ConfigArgParse, fed from the table


class _File(configargparse.ConfigFileParser):
    """`name = value`, # and ; begin a comment. Every line is checked against the table while its number is known."""

    def get_syntax_description(self):
        return "Configuration file: name = value; # begins a comment."

    def parse(self, stream):
        found = {}
        where = getattr(stream, "name", "configuration")
        if where.endswith(YAML):
            return found  # a file of pools: read in its own way
        for number, line in enumerate(stream, 1):
            line = line.split(" # ")[0].strip()
            if not line or line[0] in "#;":
                continue
            name, equals, value = (part.strip() for part in line.partition("="))
            name = name.lower().replace("-", "_")
            setting = SETTINGS.get(name)
            if setting is None:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: there is no setting {name!r}")
            if not equals:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name} has no value: write {name} = ...")
            if name in found and name not in LISTS:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name} is set twice")
            try:
                checked = setting.parse(value) if value else None
            except ValueError as error:
                raise configargparse.ConfigFileParserException(f"{where}:{number}: {name}: {error}") from None
            if value:
                self._keep(found, name, value, checked)
        return found

    @staticmethod
    def _keep(found, name, value, checked):
        if name in LISTS:
            found.setdefault(name.replace("_", "-"), []).append(value)
        else:
            found[name.replace("_", "-")] = _switch(checked) if isinstance(checked, bool) else value


def _open(name):
    """As `open`, from where the command was typed, but known by `name` as it is."""
    return open(name, opener=lambda path, flags: os.open(os.path.join(TYPED_IN, path), flags))


class _Parser(configargparse.ArgumentParser):
    """One clear line for a mistake, as an exception: who shows it is for the caller to say."""

    def error(self, message):
        raise ConfigError(message)


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog):
        super().__init__(prog, max_help_position=36, width=min(shutil.get_terminal_size().columns, 110))


def parser_for(program):
    """The command line of `program`."""
    parser = _Parser(
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
                _add(section, setting)
    section = parser.add_argument_group("Other")
    section.add_argument("-c", "--config", is_config_file=True, metavar="FILE", help="read settings from this file")
    section.add_argument("-t", "--test-conf", action="store_true", help="check the configuration and exit")
    section.add_argument("--print-config", action="store_true", help="print the effective configuration and exit")
    section.add_argument("--list-profiles", action="store_true", help="print what --profile can be and exit")
    section.add_argument("--demo", action="store_true", help="start three local memcached servers and a proxy over them")
    section.add_argument("-V", "--version", action="version", version=f"gmproxy {__version__} ({BUILD} build)",
                         help="print the version and which build of the hot modules answers")
    section.add_argument("-h", "--help", action="help", help="print this and exit")
    return parser


def _add(section, setting):
    names = [name for name in (setting.flag, option_name(setting)) if name]
    default = f" (default {setting.default})" if setting.default not in ("", "no") else ""
    wanted = {"dest": setting.name, "default": None, "help": (setting.sentence + default).replace("%", "%%")}
    if setting.parse is yes_or_no and setting.default == "no":
        section.add_argument(*names, action="store_true", **wanted)
    else:
        if setting.parse is servers:
            wanted["action"] = "append"
        section.add_argument(*names, type=_checked(setting), metavar=setting.metavar, **wanted)


def _checked(setting):
    """`setting.parse` with errors in the words of the table, not of argparse."""

    def parse_value(value):
        try:
            return setting.parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_value

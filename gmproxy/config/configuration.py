"""From command line, environment and file to one frozen, checked Config.

The nearest wins: command line, environment (GMPROXY_NAME), file, default. Names come from the settings table alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gmproxy.config import credentials, nutcracker
from gmproxy.config.command_line import ACTIONS, NEEDING_NO_SERVER, ArgumentParser, parser_for
from gmproxy.config.environment import read_environment, switched_off
from gmproxy.config.settings import CREDENTIALS, LISTS, POOL_SETTINGS, SETTINGS, TYPED_IN, render
from gmproxy.config.settings_file import YAML
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
        configs = make_configs(parsed, self._compat, servers_needed=not self.actions & NEEDING_NO_SERVER)
        named = parsed["config"] and os.path.join(TYPED_IN, parsed["config"])
        secrets = [str(getattr(config, name)) for config in configs for name in CREDENTIALS]
        self.files = [file for file in dict.fromkeys([named, configs[0].pools, *secrets]) if file]
        return configs


def read_arguments(parser: ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """{name: value, or None where none is set}, of command line, environment and file. Raises ConfigError."""
    if environment.get("GMPROXY_CONFIG"):  # first, so that -c on the command line wins
        arguments = ["-c", environment["GMPROXY_CONFIG"], *arguments]
    settings = read_environment(environment)
    parsed = vars(parser.parse_args(arguments, env_vars=settings))
    typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    for name in switched_off(settings):
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

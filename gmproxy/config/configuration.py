"""From command line, environment and file to one frozen, checked Config.

The nearest wins: command line, environment (GMPROXY_NAME), file, default. Names come from the settings table alone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gmproxy.config import credentials, magent, nutcracker
from gmproxy.config.command_line import ACTIONS, NEEDING_NO_SERVER, ArgumentParser, parser_for
from gmproxy.config.environment import read_environment, switched_off
from gmproxy.config.settings import CREDENTIALS, LISTS, POOL_SETTINGS, SETTINGS, TYPED_IN
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
        self.warnings: list[str] = []  # about what was read, each a line

    def load(self) -> list[Config]:
        """The Config of each pool; sets `actions`, `files` and `warnings`. Raises ConfigError."""
        parser = parser_for(self._program)
        parsed = read_arguments(parser, self._arguments, self.environment, self._compat)
        self.actions = {action for action in ACTIONS if parsed[action]}
        warnings = list(parser.tolerated.warnings)
        configs = make_configs(parsed, self._compat, not self.actions & NEEDING_NO_SERVER, warnings)
        self.warnings = warnings
        named = parsed["config"] and os.path.join(TYPED_IN, parsed["config"])
        secrets = [str(getattr(config, name)) for config in configs for name in CREDENTIALS]
        self.files = [file for file in dict.fromkeys([named, configs[0].pools, *secrets]) if file]
        return configs


def read_arguments(
    parser: ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str], compat: str = "gmproxy"
) -> dict[str, Any]:
    """{name: value, or None where none is set}, of command line, environment and file. `compat`: who is emulated if they do not say. Raises
    ConfigError."""
    if environment.get("GMPROXY_CONFIG"):  # first, so that -c on the command line wins
        arguments = ["-c", environment["GMPROXY_CONFIG"], *arguments]
    settings = read_environment(environment)
    parsed = vars(parser.parse_args(arguments, env_vars=settings))
    typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    for name in switched_off(settings):
        if parsed[name] and not typed[name]:  # older ConfigArgParse (1.5.3) prefers a yes of the file to a no of the environment
            parsed[name] = False
    error = parser.tolerated.error_unless_magent(parsed["compat"] or compat)
    if error:
        parser.error(error)
    if parsed["config"] and parsed["config"].endswith(YAML):
        parsed["pools"] = parsed["config"]
    return parsed


def make_configs(
    parsed: Mapping[str, Any], compat: str = "gmproxy", servers_needed: bool = True, warnings: list[str] | None = None
) -> list[Config]:
    """The Config of each pool, made of what `read_arguments` returned and of defaults. `warnings` gets lines about them. Raises ConfigError."""
    values: dict[str, Any] = {}
    warnings = [] if warnings is None else warnings
    for name, setting in SETTINGS.items():
        value = parsed[name]
        if value is None:
            default = setting.default if name != "compat" else compat
            value = [] if name in LISTS else setting.parse(default)
        elif name in LISTS:
            value = [server for part in value for server in part]
        values[name] = value
    if values["compat"] == "magent":
        changed, remarks = magent.changed_settings(values)
        values |= changed
        warnings += remarks
    if not values["pools"]:
        config = Config(name="", **values)
        _check(config, servers_needed)
        return [config]
    for name in POOL_SETTINGS:
        if parsed[name] is not None:
            raise ConfigError(f"{name} cannot stand beside a file of pools: it belongs into each pool")
    configs = []
    pools, skipped = nutcracker.read_pools(values["pools"], values["redis_pools"] == "skip")
    warnings += [f"pool {name} is a redis pool: skipped, left to twemproxy" for name in skipped]
    for pool in pools:
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

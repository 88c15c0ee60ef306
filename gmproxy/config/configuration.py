"""Reads command line, environment and files into one frozen, checked Config for each pool.

The command line overrides the environment (GMPROXY_NAME), this the file, this the default. All names come from the settings table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gmproxy.config import credentials, magent, nutcracker, roles
from gmproxy.config.command_line import ACTIONS, NEEDING_NO_SERVER, ArgumentParser, parser_for
from gmproxy.config.environment import PREFIX, read_environment, switched_off
from gmproxy.config.roles import NOT_LISTENING, WITHOUT_ROLES, SettingError, with_roles
from gmproxy.config.settings import CREDENTIALS, LISTS, POOL_SETTINGS, REPEATED, SETS, SETTINGS
from gmproxy.config.settings_file import YAML
from gmproxy.config.values import TYPED_IN
from gmproxy.errors import ConfigError
from gmproxy.placement import builder
from gmproxy.placement.server_spec import Server

if TYPE_CHECKING:

    class Config:
        """A frozen dataclass, most of whose fields are the rows of the settings table, which a type checker cannot evaluate."""

        __dataclass_fields__: ClassVar[dict[str, Any]]
        name: str
        replicas: tuple[Config, ...]
        gutter: Config | None

        def __init__(self, name: str, **settings: Any) -> None: ...
        def __getattr__(self, setting: str) -> Any: ...

else:
    Config = dataclasses.make_dataclass(
        "Config",
        ["name", *SETTINGS, ("replicas", tuple, dataclasses.field(default=())), ("gutter", object, dataclasses.field(default=None))],
        frozen=True,
    )
    Config.__doc__ = """The checked settings of one pool and of the process: an attribute for each row of the settings table. Times are in seconds.

    name       the name of the pool, or "" without a file of pools
    replicas   the Config of each replica, in order: of the pools that nutcracker.yml names, or, named replica1, replica2 ..., of this pool with
               the servers of each `replica`. Such a Config has no roles of its own, and does not listen
    gutter     the Config of the pool that stands in for servers that are down, of the same kind; None if there is none
"""

#: Reported name of a pool without a name.
UNNAMED = "default"


def parse(
    arguments: Iterable[str], environment: Mapping[str, str], program: str = "gmproxy", compat: str = "gmproxy"
) -> tuple[list[Config], set[str]]:
    """([the Config of each pool], the ACTIONS in the command line). `arguments`: without the name of the program; `compat`: the program that is
    emulated unless the settings choose one.

    Raises ConfigError. For --help and --version it prints them and raises SystemExit(0).
    """
    source = ConfigSource(arguments, environment, program, compat)
    return source.load(), source.actions


class ConfigSource:
    """The command line and environment of the process, from which `load` reads the configuration at start-up and at each reload.

    actions    the ACTIONS in the command line
    files      paths of the files that were read
    warnings   lines about what was read, for the log
    """

    def __init__(self, arguments: Iterable[str], environment: Mapping[str, str], program: str = "gmproxy", compat: str = "gmproxy") -> None:
        self._arguments = list(arguments)
        self.environment = dict(environment)
        self._program = program
        self._compat = compat
        self.actions: set[str] = set()
        self.files: list[str] = []
        self.warnings: list[str] = []

    def load(self) -> list[Config]:
        """Read the files again. Returns the Config of each pool, and sets `actions`, `files` and `warnings`. Raises ConfigError."""
        parser = parser_for(self._program)
        parsed = read_arguments(parser, self._arguments, self.environment, self._compat)
        self.actions = {action for action in ACTIONS if parsed[action]}
        warnings = list(parser.tolerated.warnings)
        configs = make_configs(parsed, self._compat, not self.actions & NEEDING_NO_SERVER, warnings)
        self.warnings = warnings
        named = parsed["config"] and os.path.join(TYPED_IN, parsed["config"])
        secrets = [str(getattr(one, name)) for config in configs for one in with_roles(config) for name in CREDENTIALS]
        self.files = [file for file in dict.fromkeys([named, configs[0].pools, *secrets]) if file]
        return configs


def read_arguments(
    parser: ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str], compat: str = "gmproxy"
) -> dict[str, Any]:
    """{name of a setting or option: value, or None if it is not set}, from command line, environment and file; with "lines": {name of a setting
    from the file: file and line of each value}. `compat`: the program that is emulated unless they choose one. Raises ConfigError."""
    if environment.get("GMPROXY_CONFIG"):  # first, so that -c on the command line overrides it
        arguments = ["-c", environment["GMPROXY_CONFIG"], *arguments]
    settings = read_environment(environment)
    parsed: dict[str, Any] = vars(parser.parse_args(arguments, env_vars=settings))
    lines = dict(parser.lines)
    typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    for name in switched_off(settings):
        if parsed[name] and not typed[name]:  # in ConfigArgParse 1.5.3, a yes in the file overrides a no in the environment
            parsed[name] = False
    error = parser.tolerated.error_unless_magent(parsed["compat"] or compat)
    if error:
        parser.error(error)
    if parsed["config"] and parsed["config"].endswith(YAML):
        parsed["pools"] = parsed["config"]
    parsed["lines"] = {name: places for name, places in lines.items() if typed[name] is None and PREFIX + name.upper() not in settings}
    return parsed


def make_configs(
    parsed: Mapping[str, Any], compat: str = "gmproxy", servers_needed: bool = True, warnings: list[str] | None = None
) -> list[Config]:
    """The Config of each pool, from the result of `read_arguments` and the defaults. Appends to `warnings`. Raises ConfigError."""
    values: dict[str, Any] = {}
    warnings = [] if warnings is None else warnings
    for name, setting in SETTINGS.items():
        value = parsed[name]
        if value is None:
            default = setting.default if name != "compat" else compat
            value = [] if name in REPEATED else setting.parse(default)
        elif name in LISTS:
            value = [server for part in value for server in part]
        values[name] = value
    if values["compat"] == "magent":
        changed, remarks = magent.changed_settings(values)
        values |= changed
        warnings += remarks
    if values["pools"]:
        for name in POOL_SETTINGS:
            if parsed[name] is not None:
                raise ConfigError(f"{name} cannot be combined with pools: set it in each pool of that file")
        return _configs_of_pools(values, warnings)
    config = Config(name="", **values, replicas=_replicas(values))
    try:
        _check(config, servers_needed)
    except SettingError as error:
        place = error.place(parsed["lines"])
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None
    warnings += roles.remarks(config)
    return [config]


def _replicas(values: Mapping[str, Any]) -> tuple[Config, ...]:
    """A Config for each set of servers in the setting `replica`: that of `values`, with these servers and without roles."""
    own = {**values, **WITHOUT_ROLES, **NOT_LISTENING}
    return tuple(Config(name=f"replica{number}", **(own | {"server": servers})) for number, servers in enumerate(values["replica"], 1))


def _configs_of_pools(values: Mapping[str, Any], warnings: list[str]) -> list[Config]:
    """The Config of each pool that listens, with those of the pools that have a role in it. `values`: the settings of the process, and defaults."""
    pools, skipped = nutcracker.read_pools(values["pools"], values["redis_pools"] == "skip")
    warnings += [f"pool {name} is a redis pool: not served (redis_pools = skip)" for name in skipped]
    sets = {pool.name: Config(name=pool.name, **{**values, **pool.settings, **NOT_LISTENING}) for pool in pools}
    configs = []
    for pool in pools:
        named = {role: [sets[name] for name in names] for role, names in pool.roles.items()}
        config = Config(
            name=pool.name,
            **{**values, **pool.settings},
            replicas=tuple(named.get(roles.REPLICAS, ())),
            gutter=next(iter(named.get(roles.GUTTER, ())), None),
        )
        try:
            _check(config, listens=pool.listens)
        except SettingError as error:
            pool.refuse(error.place(pool.nodes), error)
        except ConfigError as error:
            pool.refuse(None, error)
        if pool.listens:
            configs.append(config)
            warnings += roles.remarks(config)
    return configs


def as_plain(config: Config) -> dict[str, Any]:
    """`config` as an object for JSON, for `from_plain` in a worker. It contains passwords."""
    lists = {name: list(map(dataclasses.asdict, getattr(config, name))) for name in LISTS}
    sets = {name: [list(map(dataclasses.asdict, servers)) for servers in getattr(config, name)] for name in SETS}
    secrets = {name: getattr(config, name).as_plain() for name in CREDENTIALS if getattr(config, name)}
    in_roles = {"replicas": list(map(as_plain, config.replicas)), "gutter": config.gutter and as_plain(config.gutter)}
    return {**vars(config), **lists, **sets, **secrets, **in_roles}


def from_plain(plain: Mapping[str, Any]) -> Config:
    """The Config from the result of `as_plain`."""
    lists = {name: [Server(**server) for server in plain[name]] for name in LISTS}
    sets = {name: [[Server(**server) for server in servers] for servers in plain[name]] for name in SETS}
    secrets = {name: credentials.from_plain(plain[name]) for name in CREDENTIALS if plain[name]}
    in_roles = {"replicas": tuple(map(from_plain, plain["replicas"])), "gutter": plain["gutter"] and from_plain(plain["gutter"])}
    return Config(**{**plain, **lists, **sets, **secrets, **in_roles})


def placement_for(config: Config, servers: Sequence[Server], live: Collection[int] | None = None) -> builder.Placement:
    """The Placement of keys on `servers`. `live`: indexes of the servers that get keys; None: all. Raises ConfigError."""
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


def _check(config: Config, servers_needed: bool = True, listens: bool = True) -> None:
    """Check the settings that depend on each other. Raises ConfigError; a SettingError for one of roles."""
    if not config.server and servers_needed:
        raise ConfigError("no server: give at least one with server = HOST:PORT or -s HOST:PORT")
    if listens and config.port == 0 and not config.unix_socket:
        raise ConfigError("nothing to listen on: port is 0 and unix_socket (-f) is not set")
    if config.ketama and (config.distribution or config.profile):
        raise ConfigError("ketama (-k) cannot be combined with distribution or profile")
    if config.server_auth_file and config.backend_protocol == "text" and any(b" " in word for word in config.server_auth_file.single()):
        raise ConfigError(
            f"{config.server_auth_file}: with backend_protocol = text the user name and the password must not contain a space (server_auth_file)"
        )
    for listed in filter(None, (config.server, config.backup)):
        placement_for(config, listed)
    for index, listed in enumerate(config.replica):
        try:
            placement_for(config, listed)
        except ConfigError as error:
            raise SettingError("replica", f"replica: {error}", index) from None
    roles.check(config)

"""A configuration as text that can be read again: in the format of the configuration file, or of a file of pools."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from gmproxy.config.configuration import Config
from gmproxy.config.nutcracker import NOT_KEYS
from gmproxy.config.roles import with_roles
from gmproxy.config.settings import POOL_SETTINGS, SETS, SETTINGS, render, render_sets
from gmproxy.placement.server_spec import Server

#: no and yes in a file of pools, as nutcracker requires.
_SWITCHES = ("false", "true")


def describe(configs: Sequence[Config]) -> str:
    """`configs` as the text of a configuration file that results in the same settings."""
    if not configs[0].name:
        return "\n".join(_lines(configs[0], SETTINGS, "{name} = {value}"))
    pools = {config.name: config for config in configs}
    for one in (one for config in configs for one in with_roles(config)):
        pools.setdefault(one.name, one)  # a pool that does not listen
    return "\n\n".join(map(_describe_pool, pools.values()))


def _describe_pool(config: Config) -> str:
    lines = [f"{_quoted(config.name)}:"]
    if config.port or config.unix_socket:
        lines.append(f"  listen: {config.unix_socket or f'{config.listen}:{config.port}'} {config.unix_mode}".rstrip())
    names = [name for name in POOL_SETTINGS if name not in NOT_KEYS and name not in ("listen", "unix_mode")]
    lines += _lines(config, names, "  {name}: {value}", _quoted, _SWITCHES)
    if config.server_zone:
        lines.append(f"  zone: {_quoted(config.server_zone)}")
    if config.replicas:
        lines.append(f"  replicas: [{', '.join(_quoted(replica.name) for replica in config.replicas)}]")
    if config.gutter is not None:
        lines.append(f"  gutter: {_quoted(config.gutter.name)}")
    for key, listed in (("servers", config.server), ("backups", config.backup)):
        if listed:
            lines.append(f"  {key}:")
            lines += [f"    - {_quoted(_server(server))}" for server in listed]
    return "\n".join(lines)


def _server(server: Server) -> str:
    """host:port:weight[ name]: twemproxy requires the weight."""
    return f"{server.label.removeprefix('unix:')}:{server.weight}{f' {server.name}' if server.name else ''}"


def _lines(
    config: Config, names: Iterable[str], form: str, quoted: Callable[[str], str] = str, switches: tuple[str, str] = ("no", "yes")
) -> Iterator[str]:
    for name in names:
        value = getattr(config, name)
        if name in SETS and value:
            yield from (form.format(name=name, value=line) for line in render_sets(value))
            continue
        text = switches[value] if isinstance(value, bool) else quoted(render(SETTINGS[name], value))
        line = form.format(name=name, value=text).rstrip()
        yield f"# {line}" if value in ("", []) else line


def _quoted(value: str) -> str:
    """`value`, in quotes if YAML would not read it as text without them."""
    return value if re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./:-]*( [A-Za-z0-9_.-]+)?|", value) else json.dumps(value)

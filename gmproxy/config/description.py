"""A configuration as text that can be read again: in the format of the configuration file, or of a file of pools."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from gmproxy.config.configuration import Config
from gmproxy.config.settings import POOL_SETTINGS, SETTINGS, render
from gmproxy.placement.server_spec import Server

#: no and yes in a file of pools, as nutcracker requires.
_SWITCHES = ("false", "true")


def describe(configs: Sequence[Config]) -> str:
    """`configs` as the text of a configuration file that results in the same settings."""
    if configs[0].name:
        return "\n\n".join(map(_describe_pool, configs))
    return "\n".join(_lines(configs[0], SETTINGS, "{name} = {value}"))


def _describe_pool(config: Config) -> str:
    lines = [f"{_quoted(config.name)}:", f"  listen: {config.unix_socket or f'{config.listen}:{config.port}'} {config.unix_mode}".rstrip()]
    hidden = ("server", "backup", "listen", "port", "unix_socket", "unix_mode")
    lines += _lines(config, [name for name in POOL_SETTINGS if name not in hidden], "  {name}: {value}", _quoted, _SWITCHES)
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
        text = switches[value] if isinstance(value, bool) else quoted(render(SETTINGS[name], value))
        line = form.format(name=name, value=text).rstrip()
        yield f"# {line}" if value in ("", []) else line


def _quoted(value: str) -> str:
    """`value`, in quotes if YAML would not read it as text without them."""
    return value if re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./:-]*( [A-Za-z0-9_.-]+)?|", value) else json.dumps(value)

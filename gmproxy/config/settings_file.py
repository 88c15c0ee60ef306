"""The configuration file: `name = value` in each line, `#` and `;` begin a comment.

Every line is checked against the settings table while its number is known, so that a mistake is reported with file and line.
"""

import os
from typing import IO, Any, NoReturn

import configargparse

from gmproxy.config.settings import LISTS, SETTINGS, TYPED_IN
from gmproxy.config.suggestions import did_you_mean
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import Server

YAML = (".yml", ".yaml")


def open_file(name: str) -> IO[str]:
    """As `open`, for a `name` relative to where the command was typed. Raises ConfigError."""
    try:
        return open(name, encoding="utf-8-sig", opener=lambda path, flags: os.open(os.path.join(TYPED_IN, path), flags))
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None


def switch(value: bool) -> str:
    """`value` as all versions of ConfigArgParse understand it."""
    return "true" if value else "false"


class SettingsFile(configargparse.ConfigFileParser):
    """Reads it for ConfigArgParse. A file of pools (nutcracker.yml) is taken for empty: it is read in its own way."""

    def get_syntax_description(self) -> str:
        return "Configuration file: name = value; # begins a comment."

    def parse(self, stream: IO[str]) -> dict[str, Any]:
        """{option: text of its value, or a list of them}. Raises ConfigError."""
        where = getattr(stream, "name", "configuration")
        return {} if where.endswith(YAML) else _File(where).read(stream)


class _File:
    """One file while it is read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._line = 0
        self._values: dict[str, Any] = {}
        self._servers: dict[str, list[tuple[Server, int]]] = {name: [] for name in LISTS}  # with the line of each

    def read(self, stream: IO[str]) -> dict[str, Any]:
        try:
            for self._line, line in enumerate(stream, 1):
                if "\0" in line:
                    raise self._no_text()
                line = line.split(" # ")[0].strip()
                if line and line[0] not in "#;":
                    self._read_line(line)
        except UnicodeDecodeError:
            raise self._no_text() from None
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}") from None
        self._check_backups()
        return self._values

    def _read_line(self, line: str) -> None:
        name, equals, value = (part.strip() for part in line.partition("="))
        name = name.lower().replace("-", "_")
        if name not in SETTINGS:
            self._bad_line(_unknown(line, name))
        if not equals:
            self._bad_line(f"{name} has no value: write {name} = ...")
        option = name.replace("_", "-")
        if option in self._values and name not in LISTS:
            self._bad_line(f"{name} is set twice")
        if not value:
            return
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            self._bad_line(f"{name}: leave out the quotes: write {name} = {value[1:-1]}")
        try:
            checked = SETTINGS[name].parse(value)
        except ValueError as error:
            self._bad_line(f"{name}: {error}")
        if name in LISTS:
            self._add_servers(name, checked)
            self._values.setdefault(option, []).append(value)
        else:
            self._values[option] = switch(checked) if isinstance(checked, bool) else value

    def _add_servers(self, name: str, servers: list[Server]) -> None:
        listed = self._servers[name]
        for server in servers:
            for earlier, line in listed:
                if (earlier.label, earlier.name) == (server.label, server.name):
                    self._bad_line(f"{name} {server} is also in line {line}: remove one, or give each a name of its own if it counts twice")
            listed.append((server, self._line))

    def _check_backups(self) -> None:
        """With as many backups as servers, each server has the backup at its own place of the list."""
        servers, backups = (self._servers[name] for name in LISTS)
        if len(servers) != len(backups):
            return
        for (server, line), (backup, self._line) in zip(servers, backups):
            if server.label == backup.label:
                self._bad_line(f"backup {backup.label} is the backup of itself (server in line {line}): its keys would have no copy")

    def _no_text(self) -> ConfigError:
        return ConfigError(f"{self._path}: not a text file")

    def _bad_line(self, why: object) -> NoReturn:
        raise ConfigError(f"{self._path}:{self._line}: {why}")


def _unknown(line: str, name: str) -> str:
    """What is wrong with a line that begins with no setting, and what may have been meant."""
    if line.startswith("["):
        return f"there are no sections here: leave out {line!r}"
    first, _, rest = line.partition(" ")
    if line.endswith(":"):
        return f"{line!r} looks like a file of pools (nutcracker.yml): give it a name that ends in .yml, or read it with --pools"
    word = first.rstrip(":").lower().replace("-", "_")
    if word in SETTINGS:
        return f"an equals sign is missing: write {word} = {rest.strip()}"
    flags = {setting.flag: other for other, setting in SETTINGS.items() if setting.flag}
    if first in flags:
        return f"options are written as name = value here: write {flags[first]} = {rest.strip() or '...'}"
    return f"there is no setting {name!r}{did_you_mean(name, SETTINGS)}"

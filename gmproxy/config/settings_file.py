"""Reads the configuration file: `name = value` in each line; `#` and `;` begin a comment.

Each line is checked against the settings table when it is read, so that errors have the number of the line.
"""

import os
from typing import IO, Any, NoReturn

import configargparse

from gmproxy.config.settings import LISTS, REPEATED, SETTINGS
from gmproxy.config.suggestions import did_you_mean
from gmproxy.config.values import TYPED_IN
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import Server

YAML = (".yml", ".yaml")


def open_file(name: str) -> IO[str]:
    """Open the text file `name`, relative to the directory in which the command was typed. Raises ConfigError."""
    try:
        return open(name, encoding="utf-8-sig", opener=lambda path, flags: os.open(os.path.join(TYPED_IN, path), flags))
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from None


def switch(value: bool) -> str:
    """`value` as a text that all versions of ConfigArgParse accept."""
    return "true" if value else "false"


class SettingsFile(configargparse.ConfigFileParser):
    """The parser of the configuration file for ConfigArgParse. For nutcracker.yml it returns nothing: config.nutcracker reads that.

    lines   {name of a setting: file and line of each of its values} of the file that was read last
    """

    lines: dict[str, list[str]] = {}

    def get_syntax_description(self) -> str:
        return "Configuration file: name = value; # begins a comment."

    def parse(self, stream: IO[str]) -> dict[str, Any]:
        """{long option without dashes: text of its value, or a list of texts}. Raises ConfigError."""
        where = getattr(stream, "name", "configuration")
        file = _File(where)
        values = {} if where.endswith(YAML) else file.read(stream)
        self.lines.clear()
        self.lines.update((name, [f"{where}:{line}" for line in lines]) for name, lines in file.lines.items())
        return values


class _File:
    """The state while one file is read.

    lines   {name of a setting: number of the line of each of its values}
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._line = 0
        self._values: dict[str, Any] = {}
        self.lines: dict[str, list[int]] = {}
        self._servers: dict[str, list[tuple[Server, int]]] = {name: [] for name in LISTS}  # with the line of each

    def read(self, stream: IO[str]) -> dict[str, Any]:
        try:
            for self._line, line in enumerate(stream, 1):
                if "\0" in line:
                    raise self._not_text()
                line = line.split(" # ")[0].strip()
                if line and line[0] not in "#;":
                    self._read_line(line)
        except UnicodeDecodeError:
            raise self._not_text() from None
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
        if option in self._values and name not in REPEATED:
            self._bad_line(f"{name} is set twice")
        if not value:
            return
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            self._bad_line(f"{name}: remove the quotes: write {name} = {value[1:-1]}")
        try:
            checked = SETTINGS[name].parse(value)
        except ValueError as error:
            self._bad_line(f"{name}: {error}")
        self.lines.setdefault(name, []).append(self._line)
        if name in REPEATED:
            self._add_servers(name, checked, self._servers.get(name, []))
            self._values.setdefault(option, []).append(value)
        else:
            self._values[option] = switch(checked) if isinstance(checked, bool) else value

    def _add_servers(self, name: str, servers: list[Server], listed: list[tuple[Server, int]]) -> None:
        """Add `servers` to those that were `listed` for the same setting, or for the same set of servers."""
        for server in servers:
            for earlier, line in listed:
                if (earlier.label, earlier.name) == (server.label, server.name):
                    self._bad_line(
                        f"{name} {server} is also on line {line}: remove one, or give each a different name to use the server twice"
                    )
            listed.append((server, self._line))

    def _check_backups(self) -> None:
        """With as many backups as servers, the backup of a server is the one with the same index."""
        servers, backups = (self._servers[name] for name in LISTS)
        if len(servers) != len(backups):
            return
        for (server, line), (backup, self._line) in zip(servers, backups):
            if server.label == backup.label:
                self._bad_line(f"backup {backup.label} is the backup of itself (server on line {line}): its keys would have no copy")

    def _not_text(self) -> ConfigError:
        return ConfigError(f"{self._path}: not a text file")

    def _bad_line(self, why: object) -> NoReturn:
        raise ConfigError(f"{self._path}:{self._line}: {why}")


def _unknown(line: str, name: str) -> str:
    """The error for `line`, which does not begin with a setting; with the likely correction. `name`: the word before the equals sign."""
    if line.startswith("["):
        return f"sections are not supported: remove {line!r}"
    first, _, rest = line.partition(" ")
    if line.endswith(":"):
        return f"{line!r} looks like nutcracker.yml: give the file a name that ends in .yml, or read it with --pools"
    word = first.rstrip(":").lower().replace("-", "_")
    if word in SETTINGS:
        return f"no equals sign: write {word} = {rest.strip()}"
    flags = {setting.flag: other for other, setting in SETTINGS.items() if setting.flag}
    if first in flags:
        return f"expected name = value: write {flags[first]} = {rest.strip() or '...'}"
    return f"there is no setting {name!r}{did_you_mean(name, SETTINGS)}"

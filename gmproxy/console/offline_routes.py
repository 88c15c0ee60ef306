"""The servers of keys under a configuration, computed without a running service."""

from collections.abc import Sequence
from typing import Any

from gmproxy.config import configuration
from gmproxy.config.configuration import UNNAMED, Config
from gmproxy.errors import ConfigError


def select_pool(configs: Sequence[Config], name: str | None) -> Config:
    """The Config of the pool `name`; None: of the only pool. A pool without a name is called UNNAMED. Raises ConfigError."""
    titles = [config.name or UNNAMED for config in configs]
    for config, title in zip(configs, titles):
        if title == name or (name is None and len(configs) == 1):
            return config
    known = ", ".join(titles)
    raise ConfigError(f"there is no pool {name!r}; known: {known}" if name else f"there are several pools: give --pool with one of {known}")


class OfflineRoutes:
    """The placement of keys under `config`. Raises ConfigError if its settings do not fit together."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.primaries = configuration.placement_for(config, config.server)
        self.backups = configuration.placement_for(config, config.backup) if config.backup else None
        self._replicas = list(map(_Set, config.replicas))
        self._gutter = None if config.gutter is None else _Set(config.gutter)

    def route_key(self, key: bytes) -> dict[str, Any]:
        """{"hash": number, "server": text}, and for what the pool has, "backup": text, "replicas": [text for each], "gutter": text."""
        route: dict[str, Any] = {"hash": self.primaries.hash(key), "server": str(self.config.server[self.primaries.locate(key)])}
        if self.backups is not None:
            route["backup"] = str(self.config.backup[self.backups.locate(key)])
        if self._replicas:
            route["replicas"] = [replica.server_of(key) for replica in self._replicas]
        if self._gutter is not None:
            route["gutter"] = self._gutter.server_of(key)
        return route


class _Set:
    """The servers of a pool that has a role."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._placement = configuration.placement_for(config, config.server)

    def server_of(self, key: bytes) -> str:
        return str(self._config.server[self._placement.locate(key)])


def show_key(key: bytes) -> str:
    """`key` for a terminal: printable text without blanks unchanged, everything else as a bytes literal of Python."""
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() and " " not in text and text.encode() == key else repr(key)

"""Where keys go under a configuration, computed without a running proxy."""

from collections.abc import Sequence
from typing import Any

from gmproxy.config import configuration
from gmproxy.config.configuration import UNNAMED, Config
from gmproxy.errors import ConfigError


def select_pool(configs: Sequence[Config], name: str | None) -> Config:
    """The Config of the pool `name`, or the only one. One without a name has the name that the running service gives it. Raises ConfigError."""
    titles = [config.name or UNNAMED for config in configs]
    for config, title in zip(configs, titles):
        if title == name or (name is None and len(configs) == 1):
            return config
    known = ", ".join(titles)
    raise ConfigError(f"there is no pool {name!r}; known: {known}" if name else f"which pool? say --pool with one of: {known}")


class OfflineRoutes:
    """Where keys go under `config`. Raises ConfigError if its servers cannot be placed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.primaries = configuration.placement_for(config, config.server)
        self.backups = configuration.placement_for(config, config.backup) if config.backup else None

    def route_key(self, key: bytes) -> dict[str, Any]:
        """{"hash", "server", "backup" if there is one} of `key` (bytes)."""
        route = {"hash": self.primaries.hash(key), "server": str(self.config.server[self.primaries.locate(key)])}
        if self.backups is not None:
            route["backup"] = str(self.config.backup[self.backups.locate(key)])
        return route


def show_key(key: bytes) -> str:
    """`key` for a terminal: text as it is, else as Python writes bytes."""
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() and " " not in text and text.encode() == key else repr(key)

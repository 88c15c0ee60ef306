"""Where keys go under a configuration, told without a proxy."""

from gmproxy.config import configuration
from gmproxy.errors import ConfigError


def chosen(configs, name):
    """The Config of the pool `name`, or the only one."""
    for config in configs:
        if config.name == name or (name is None and len(configs) == 1):
            return config
    known = ", ".join(config.name for config in configs)
    raise ConfigError(f"there is no pool {name!r}; known: {known}" if name else f"which pool? say --pool with one of: {known}")


class Routes:
    """Where keys go under `config`."""

    def __init__(self, config):
        self.config = config
        self.primaries = configuration.placement_for(config, config.server)
        self.backups = configuration.placement_for(config, config.backup) if config.backup else None

    def of(self, key):
        """{"hash", "server", "backup" if there is one} of `key` (bytes)."""
        found = {"hash": self.primaries.hash(key), "server": str(self.config.server[self.primaries.locate(key)])}
        if self.backups is not None:
            found["backup"] = str(self.config.backup[self.backups.locate(key)])
        return found


def show(key):
    """`key` for a terminal: text as it is, else as Python writes bytes."""
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() and " " not in text and text.encode() == key else repr(key)

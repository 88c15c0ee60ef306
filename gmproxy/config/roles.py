"""The roles that pools have in another pool: its replicas, each a set of servers with a copy of all items, and its gutter, a set that stands in
for servers that are down. What the settings of a pool with roles must not say."""

from collections.abc import Iterator
from typing import Any

from gmproxy.errors import ConfigError

#: The roles, as keys of nutcracker.yml and as attributes of a Config.
REPLICAS, GUTTER = ROLES = ("replicas", "gutter")

#: Maximum number of replicas of a pool. A cas number has seven bits for the index of its set (gmproxy.protocol.cas_numbers).
MAX_REPLICAS = 127

#: The settings of a set of servers that does not listen, and of one without roles of its own.
NOT_LISTENING = {"listen": "0.0.0.0", "port": 0, "unix_socket": "", "unix_mode": ""}
WITHOUT_ROLES: dict[str, Any] = {"backup": [], "replica": [], "write": "main", "read": "first"}


class SettingError(ConfigError):
    """The setting `setting` is not valid together with others; of a setting with several values, the one with the index `index`."""

    def __init__(self, setting: str, why: str, index: int = 0) -> None:
        super().__init__(why)
        self.setting = setting
        self.index = index

    def place(self, places: dict[str, list[Any]]) -> Any:
        """The place of the value in {setting: the places of its values}; None if it is unknown."""
        return dict(enumerate(places.get(self.setting, ()))).get(self.index)


def with_roles(config: Any) -> Iterator[Any]:
    """`config` (a Config), and those of the pools that have a role in it."""
    yield config
    yield from config.replicas
    if config.gutter is not None:
        yield config.gutter


def check(config: Any) -> None:
    """Check the settings of `config` (a Config) that concern replicas and the gutter. Raises SettingError."""
    replica, backup = ("replicas", "backups") if config.pools else ("replica", "backup")
    if config.replicas and config.backup:
        raise SettingError(replica, f"{replica} cannot be combined with {backup}: a replica receives every write, as a backup does")
    for setting, present in (replica, config.replicas), (GUTTER, config.gutter):
        if present and config.auto_eject_hosts:
            raise SettingError(setting, f"{setting} cannot be combined with auto_eject_hosts: either has the keys of an ejected server")
    if len(config.replicas) > MAX_REPLICAS:
        raise SettingError(replica, f"{len(config.replicas)} replicas: the maximum is {MAX_REPLICAS}", MAX_REPLICAS)
    for name in ("write", "read"):
        value = getattr(config, name)
        if value != WITHOUT_ROLES[name] and not config.replicas:
            raise SettingError(name, f"{name} = {value} requires at least one replica")
    if config.read == "near" and not config.zone:
        raise SettingError("read", "read = near requires the zone of the proxy: set zone (--zone NAME)")
    if config.gutter is not None and not config.failover_ttl:
        raise SettingError(GUTTER, "gutter requires failover_ttl, the maximum lifetime of an item that is stored there, in seconds")
    _check_servers(config, replica)


def _check_servers(config: Any, replica: str) -> None:
    """A server is in one set only. `replica`: the setting of the replicas."""
    sets = [(replica, index, one) for index, one in enumerate(config.replicas)]
    sets += [(GUTTER, 0, one) for one in (config.gutter,) if one is not None]
    known = {server.label: "the main set" for server in config.server}
    known |= {server.label: "the backups" for server in config.backup}
    for setting, index, one in sets:
        labels = dict.fromkeys(server.label for server in one.server)
        for label in labels:
            if label in known:
                raise SettingError(setting, f"{setting}: {label} of {one.name} is in {known[label]}, too: a set has its own servers", index)
        known |= dict.fromkeys(labels, one.name)


def remarks(config: Any) -> Iterator[str]:
    """Lines about what is valid and probably not meant."""
    zones = {one.server_zone for one in (config, *config.replicas)}
    if config.read == "near" and config.zone not in zones:
        pool = f"pool {config.name}: " if config.name else ""
        yield f"{pool}read = near: no set of servers is in the zone {config.zone} of the proxy: reads use the first set"

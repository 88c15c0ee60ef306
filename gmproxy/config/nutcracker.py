"""Reads twemproxy's nutcracker.yml: pools, each a listen address with its own servers.

A pool may also have the settings of gmproxy that concern a pool, under their own names. The file is read as a tree of nodes with their line
numbers, so that errors have file, line and pool.
"""

import dataclasses
import re
from typing import Any, NoReturn

import yaml

from gmproxy.config.roles import NOT_LISTENING, REPLICAS, ROLES
from gmproxy.config.settings import LISTS, POOL_SETTINGS, SETTINGS
from gmproxy.config.suggestions import did_you_mean
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import Server, parse_servers
from gmproxy.protocol.numbers import plain_number

#: twemproxy's defaults where they differ from gmproxy's. Not the timeout: twemproxy has none by default.
TWEMPROXY_DEFAULTS = {
    "hash": "fnv1a_64",
    "distribution": "ketama",
    "backlog": 512,
    "max_connections": 0,
    "server_connections": 1,
    "server_failure_limit": 2,
}

#: Keys for which twemproxy accepts any whole number -> the bounds of gmproxy. A value outside becomes the nearest bound.
TWEMPROXY_NUMBERS = {
    "timeout": (1, 86_400_000),
    "backlog": (1, 65535),
    "max_connections": (0, 1_000_000),
    "server_connections": (0, 1024),  # 0 is refused, as in twemproxy
    "server_retry_timeout": (1, 86_400_000),
    "server_failure_limit": (1, 1_000_000),
}

#: Key -> name of the setting, where they differ.
RENAMED = {
    "servers": "server",
    "backups": "backup",
    "client_connections": "max_connections",
    "unix_socket_mode": "unix_mode",
    "zone": "server_zone",
}

#: Keys that only redis pools have.
REDIS_KEYS = ("redis_auth", "redis_db")

#: Keys for which twemproxy accepts only `true` and `false`, and those that must not be empty.
TWEMPROXY_SWITCHES = ("redis", "tcpkeepalive", "preconnect", "auto_eject_hosts")
TWEMPROXY_WORDS = ("hash", "hash_tag", "distribution")

#: As in twemproxy, an entry of `servers` has a weight, up to MAX_WEIGHT. The forms unix:/path and [v6]:port, which twemproxy does not have, may
#: omit it.
WEIGHTED = re.compile(r"(/.*(?=:[0-9.]+$)|[^/].*:.*):(?P<weight>[^:/]+)")
MAX_WEIGHT = (1 << 31) - 1
OUR_FORMS = ("unix:", "[")

#: A host in `listen`. twemproxy looks the name up when it checks a file, and so refuses `$NAME`.
HOST = re.compile(r"[A-Za-z0-9_.:%*\[\]-]+")

#: Control characters, which YAML can escape. No setting may contain them: they would break lines of the log.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: Settings of a pool that are no keys: they have another name or form.
NOT_KEYS = ("server", "backup", "replica", "server_zone", "port", "unix_socket")

#: The keys of a pool.
KEYS = ("redis", *RENAMED, *ROLES, *(name for name in POOL_SETTINGS if name not in NOT_KEYS))

TWEMPROXY_DISTRIBUTIONS = ("ketama", "modula", "random")


def read_pools(path: str, skip_redis: bool = False) -> tuple[list["PoolReader"], list[str]]:
    """(the pools in the file `path`, the names of its redis pools). Raises ConfigError, for a redis pool too unless `skip_redis`."""
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise ConfigError(f"{path}: not a text file") from None
    except yaml.YAMLError as error:
        raise ConfigError(_syntax_error(path, error)) from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply: a pool is 'NAME:' and, indented below it, listen, servers, ...") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise ConfigError(f"{path}: no pools: expected 'NAME:' and, indented below it, listen, servers, ...")
    pools: list[PoolReader] = []
    skipped: list[str] = []
    addresses: dict[tuple[Any, ...], str] = {}
    for name_node, node in root.value:
        line = name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: expected the name of a pool")
        name = name_node.value
        if CONTROL.search(name):
            raise ConfigError(f"{path}:{line}: a control character in the name of a pool: {name!r}")
        if name in skipped or name in [pool.name for pool in pools]:
            raise ConfigError(f"{path}:{line}: pool {name}: duplicate name of a pool")
        if skip_redis and _is_redis(node):
            skipped.append(name)
            continue
        pool = PoolReader(path, name, node)
        pools.append(pool)
        if not pool.listens:
            continue
        address = tuple(pool.settings[setting] for setting in ("listen", "port", "unix_socket"))
        if address in addresses:
            pool.refuse(pool.listen_node, f"listen: {pool.listen_node.value}: pool {addresses[address]} listens on this address, too")
        addresses[address] = name
    if not pools:
        raise ConfigError(f"{path}: all pools are redis pools: gmproxy serves memcached pools only")
    _check_roles({pool.name: pool for pool in pools}, skipped)
    return pools, skipped


def _check_roles(pools: dict[str, "PoolReader"], skipped: list[str]) -> None:
    """The pools that have a role exist and have no roles themselves; each of the others listens. Raises ConfigError. `skipped`: the names of
    redis pools."""
    with_role = {name for pool in pools.values() for names in pool.roles.values() for name in names}
    for pool in pools.values():
        for role, names in pool.roles.items():
            for name, node in zip(names, pool.nodes[role]):
                if name == pool.name:
                    pool.refuse(node, f"{role}: {name} is this pool itself")
                if name in skipped:
                    pool.refuse(node, f"{role}: {name} is a redis pool")
                if name not in pools:
                    pool.refuse(node, f"{role}: there is no pool {name!r} in this file{did_you_mean(name, pools)}")
                refused = pools[name].not_in_role()
                if refused:
                    pool.refuse(node, f"{role}: pool {name} has {' and '.join(refused)}, which a pool with a role cannot have")
        if not pool.listens and pool.name not in with_role:
            pool.refuse(pool.node, "listen is missing")


def _is_redis(node: yaml.Node) -> bool:
    """True if the pool `node` has `redis: true`."""
    return isinstance(node, yaml.MappingNode) and any(key.value == "redis" and value.value == "true" for key, value in node.value)


def _syntax_error(path: str, error: Any) -> str:
    """PyYAML's error in terms of the file. PyYAML may report a mistake one line too late."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error)
    if "quoted scalar" in str(getattr(error, "context", "")):
        return f"{path}:{error.context_mark.line + 1}: a quote is not closed"
    if "\\t" in problem:
        problem = "a tab: indent with spaces"
    elif "mapping values" in problem or "expected <block end>" in problem or "could not find expected ':'" in problem:
        problem = "wrong indentation, or a key without a colon and a space after it, on this line or the one before"
    return f"{path}:{mark.line + 1}: {problem}" if mark else f"{path}: {problem}"


class PoolReader:
    """One pool of the file.

    settings      {name: value} of the settings that the pool or twemproxy's defaults set
    roles         {one of ROLES: the names of the pools that have it}
    nodes         {name of a setting or role: its nodes, for each name of a list one}
    listens       False without `listen`
    listen_node   the value of `listen`; `node`: the pool
    """

    def __init__(self, path: str, name: str, node: yaml.Node) -> None:
        self.path = path
        self.name = name
        self.node = node
        self.listen_node = node
        self.roles: dict[str, list[str]] = {}
        self.nodes: dict[str, list[yaml.Node]] = {}
        self.settings = self._read_settings()
        self.listens = self.listen_node is not node

    def not_in_role(self) -> list[str]:
        """The keys of this pool that a pool with a role cannot have."""
        names = {"backups": "backup", "auto_eject_hosts": "auto_eject_hosts"}
        return [*self.roles, *(key for key, name in names.items() if self.settings.get(name))]

    def _read_settings(self) -> dict[str, Any]:
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse(self.node, "its keys (listen, servers, ...) must be indented below it")
        settings: dict[str, Any] = {**TWEMPROXY_DEFAULTS, **NOT_LISTENING}
        seen: dict[str, yaml.Node] = {}
        for key_node, node in self.node.value:
            key = self._scalar(key_node)
            if key in seen:
                self.refuse(key_node, f"{key} is set twice")
            seen[key] = node
            self._read_key(key, key_node, node, settings)
        if "servers" not in seen:
            self.refuse(self.node, "servers is missing")
        if "backups" in seen:
            self._check_backups(settings, seen["backups"].value)
        if "profile" in seen:  # it brings its own
            for name in {"hash", "distribution"} - seen.keys():
                settings[name] = ""
        elif "distribution" in seen and "hash" not in seen and settings["distribution"] not in TWEMPROXY_DISTRIBUTIONS:
            settings["hash"] = ""
        return settings

    def _read_key(self, key: str, key_node: yaml.Node, node: yaml.Node, settings: dict[str, Any]) -> None:
        if key == "listen":
            self.listen_node = node
            self._read_listen(node, settings)
        elif key == "redis":
            if self._read_switch(key, node):
                self.refuse(node, "redis: gmproxy serves memcached pools only; to serve the other pools, set --redis-pools skip")
        elif key in REDIS_KEYS:
            self.refuse(key_node, f"{key}: gmproxy serves memcached pools only")
        else:
            name = RENAMED.get(key, key)
            if key not in KEYS:
                self.refuse(key_node, f"there is no key {key!r}{did_you_mean(key, KEYS)}")
            self.nodes[name] = [node]
            if key in ROLES:
                self._read_role(key, node)
            else:
                settings[name] = self._read_servers(key, node) if name in LISTS else self._read_value(name, node)

    def _read_role(self, role: str, node: yaml.Node) -> None:
        """The name of a pool, or for replicas a list of names."""
        if role == REPLICAS:
            if not isinstance(node, yaml.SequenceNode) or not node.value:
                self.refuse(node, f"{role}: expected a list of pools, such as [west, east]")
            self.nodes[role] = node.value
        self.roles[role] = names = list(map(self._scalar, self.nodes[role]))
        for index, name in enumerate(names):
            if name in names[:index]:
                self.refuse(self.nodes[role][index], f"{role}: {name} is listed twice")

    def _read_listen(self, node: yaml.Node, settings: dict[str, Any]) -> None:
        """address:port, name:port, or a path with optional permission bits."""
        text = self._scalar(node)
        if text.startswith("/"):
            path, _, mode = text.partition(" ")
            settings.update(port=0, unix_socket=path, unix_mode=self._parse("unix_mode", mode.strip(), node))
            return
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            self.refuse(node, f"listen: {text!r} is neither address:port nor /path")
        settings.update(listen=self._parse("listen", host, node), port=self._parse("port", port, node))
        if settings["port"] == 0:
            self.refuse(node, f"listen: {text!r} has no port")
        if not HOST.fullmatch(host):
            self.refuse(node, f"listen: {host!r} is neither an address nor a host name")

    def _read_servers(self, key: str, node: yaml.Node) -> list[Server]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.refuse(node, f"{key}: expected a list, each line '- host:port:weight [name]'")
        if node.flow_style and key == "servers":
            self.refuse(node, "servers: a [list] is not allowed, as in twemproxy: write one server on each line, after a dash")
        pool_servers: list[Server] = []
        names: set[str] = set()
        for item in node.value:
            text = self._scalar(item)
            if key == "servers":
                self._check_weight(text, item)
            server = self._read_server(text, item)
            name = server.name or server.label  # as in twemproxy, an address may be listed under two names
            if name in names:
                self.refuse(item, f"{key}: {name} is listed twice")
            names.add(name)
            pool_servers.append(server)
        return pool_servers

    def _check_weight(self, text: str, node: yaml.Node) -> None:
        """As in twemproxy: an entry has a weight, and one space before the name."""
        address, _, name = text.partition(" ")
        weighted = WEIGHTED.fullmatch(address)
        if weighted is None and not address.startswith(OUR_FORMS):
            self.refuse(node, f"servers: {text!r} has no weight: expected host:port:weight [name] or /path:weight [name]")
        if weighted and (plain_number(weighted["weight"]) or 0) > MAX_WEIGHT:
            self.refuse(node, f"servers: {text!r}: the weight is above {MAX_WEIGHT}")
        if name != name.lstrip():
            self.refuse(node, f"servers: {text!r}: more than one space before the name")

    def _read_server(self, text: str, node: yaml.Node) -> Server:
        """host:port:weight [name], split from the end as in twemproxy: the host may be an IPv6 address without brackets."""
        address, _, name = text.strip().partition(" ")
        if "," in address or ";" in address:
            self.refuse(node, f"servers: {text!r} contains more than one server")
        name = name.strip()
        if not address.startswith(("/", "[", "unix:")) and address.count(":") > 2:
            host, _, port_and_weight = address.rpartition(":")
            host, _, port = host.rpartition(":")
            address = f"[{host}]:{port}:{port_and_weight}"
        try:
            (server,) = parse_servers(address)
        except ValueError as error:
            self.refuse(node, f"server: {error}")
        if len(name.split()) > 1:
            self.refuse(node, f"server: bad server {text!r}: a name is one word")
        return dataclasses.replace(server, name=name or None)

    def _check_backups(self, settings: dict[str, Any], nodes: list[yaml.Node]) -> None:
        """With as many backups as servers, the backup of a server is the one with the same index."""
        if len(settings["server"]) == len(settings["backup"]):
            for server, backup, node in zip(settings["server"], settings["backup"], nodes):
                if server.label == backup.label:
                    self.refuse(node, f"backups: {backup.label} is the backup of itself: its keys would have no copy")

    def _read_switch(self, key: str, node: yaml.Node) -> bool:
        text = self._scalar(node)
        if text not in ("true", "false"):
            self.refuse(node, f"{key}: {text!r} is neither true nor false")
        return text == "true"

    def _read_value(self, name: str, node: yaml.Node) -> Any:
        if name in TWEMPROXY_SWITCHES:
            return self._read_switch(name, node)
        text = self._scalar(node)
        if not text and name in TWEMPROXY_WORDS:
            self.refuse(node, f"{name}: the value is missing")
        number = plain_number(text)
        if name in TWEMPROXY_NUMBERS and number is not None:
            least, most = TWEMPROXY_NUMBERS[name]
            text = str(min(max(number, least), most))
        return self._parse(name, text, node)

    def _parse(self, name: str, text: str, node: yaml.Node) -> Any:
        try:
            return SETTINGS[name].parse(text)
        except ValueError as error:
            self.refuse(node, f"{name}: {error}")

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, "expected a single value (text such as {} needs quotes)")
        if CONTROL.search(node.value):
            self.refuse(node, f"a control character in {node.value!r}")
        value: str = node.value
        return value

    def refuse(self, node: yaml.Node | None, why: object) -> NoReturn:
        """Raises ConfigError with the line of `node`, or of the pool if that is None, and the reason `why`."""
        node = node or self.node
        raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: pool {self.name}: {why}")

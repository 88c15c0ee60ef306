"""twemproxy's nutcracker.yml: many pools, each a listen address with its own servers, read as it is.

A pool may also set anything of our own settings table that is not a matter of the whole process, under its own name. Every mistake is
told with file, line and pool: the file is read as a tree of nodes that know where they stand.
"""

import dataclasses

import yaml

from gmproxy.config.settings import POOL_SETTINGS, SETTINGS, servers, yes_or_no
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import parse_servers

#: What twemproxy does where a pool says nothing and our own default is another. Its timeout is "for ever": ours stays.
TWEMPROXY_DEFAULTS = {
    "hash": "fnv1a_64",
    "distribution": "ketama",
    "backlog": 512,
    "max_connections": 0,
    "server_connections": 1,
    "server_failure_limit": 2,
}

#: twemproxy takes any whole number for these. What lies outside our bounds is brought to the nearest.
TWEMPROXY_NUMBERS = {
    "timeout": (1, 86_400_000),
    "backlog": (1, 65535),
    "max_connections": (0, 1_000_000),
    "server_connections": (0, 1024),  # 0 is refused, there as here
    "server_retry_timeout": (1, 86_400_000),
    "server_failure_limit": (1, 1_000_000),
}

#: twemproxy's name -> ours, where they differ.
RENAMED = {"servers": "server", "backups": "backup", "client_connections": "max_connections", "unix_socket_mode": "unix_mode"}

#: Keys that only a redis pool can have.
REDIS_KEYS = ("redis_auth", "redis_db")

TWEMPROXY_DISTRIBUTIONS = ("ketama", "modula", "random")


def read(path):
    """The pools of the file `path`: each has a `name` and `settings`, {name: value} without what it leaves to our defaults, and
    can `refuse` them. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise ConfigError(f"{path}: no pools: expected 'NAME:' and, below it, listen, servers, ...")
    pools = []
    listening = {}
    for name_node, node in root.value:
        line = name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: expected the name of a pool")
        name = name_node.value
        if name in [pool.name for pool in pools]:
            raise ConfigError(f"{path}:{line}: pool {name}: there are two of this name")
        pool = _Pool(path, name, node)
        pools.append(pool)
        place = tuple(pool.settings[setting] for setting in ("listen", "port", "unix_socket") if setting in pool.settings)
        if place in listening:
            pool.refuse(pool.listen_node, f"listen: {pool.listen_node.value}: pool {listening[place]} listens there")
        listening[place] = name
    return pools


class _Pool:
    """Reads one pool; knows how to say where a mistake is."""

    def __init__(self, path, name, node):
        self.path = path
        self.name = name
        self.node = node
        self.listen_node = node
        self.settings = self._read()

    def _read(self):
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse(self.node, "expected keys such as listen and servers")
        found = dict(TWEMPROXY_DEFAULTS)
        seen = set()
        for key_node, node in self.node.value:
            key = self._scalar(key_node)
            if key in seen:
                self.refuse(key_node, f"{key} is set twice")
            seen.add(key)
            self._take(key, key_node, node, found)
        for key in ("listen", "servers"):
            if key not in seen:
                self.refuse(self.node, f"{key} is missing")
        if "profile" in seen:  # it brings its own
            for name in {"hash", "distribution"} - seen:
                found[name] = ""
        elif "distribution" in seen and "hash" not in seen and found["distribution"] not in TWEMPROXY_DISTRIBUTIONS:
            found["hash"] = ""
        return found

    def _take(self, key, key_node, node, found):
        if key == "listen":
            self.listen_node = node
            self._listen(node, found)
        elif key == "redis":
            if yes_or_no(self._scalar(node)):
                self.refuse(node, "redis: gmproxy serves memcached pools only; leave this one to twemproxy")
        elif key in REDIS_KEYS:
            self.refuse(key_node, f"{key}: gmproxy serves memcached pools only")
        else:
            name = RENAMED.get(key, key)
            if name not in POOL_SETTINGS or key in ("server", "backup", "port", "unix_socket"):
                self.refuse(key_node, f"there is no key {key!r}")
            found[name] = self._servers(key, node) if SETTINGS[name].parse is servers else self._value(name, node)

    def _listen(self, node, found):
        """address:port, name:port, or a path with or without permissions."""
        text = self._scalar(node)
        if text.startswith("/"):
            path, _, mode = text.partition(" ")
            found.update(port=0, unix_socket=path, unix_mode=self._parsed("unix_mode", mode.strip(), node))
            return
        host, colon, port = text.rpartition(":")
        if not colon or not host:
            self.refuse(node, f"listen: {text!r} is neither address:port nor /path")
        found.update(listen=host, port=self._parsed("port", port, node))
        if found["port"] == 0:
            self.refuse(node, f"listen: {text!r} has no port")

    def _servers(self, key, node):
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.refuse(node, f"{key}: expected a list of - host:port:weight [name]")
        found = []
        names = set()
        for item in node.value:
            server = self._server(self._scalar(item), item)
            name = server.name or server.label  # as twemproxy: one address may be there under two names
            if name in names:
                self.refuse(item, f"{key}: {name} is there twice")
            names.add(name)
            found.append(server)
        return found

    def _server(self, text, node):
        """host:port:weight [name], split from the end as twemproxy does: the host may be an IPv6 address without brackets, and
        the name may be any one word."""
        address, _, name = text.strip().partition(" ")
        if "," in address or ";" in address:
            self.refuse(node, f"servers: {text!r} is more than one server")
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

    def _value(self, name, node):
        text = self._scalar(node)
        if name in TWEMPROXY_NUMBERS and text.isascii() and text.isdigit():
            text = str(min(max(int(text), TWEMPROXY_NUMBERS[name][0]), TWEMPROXY_NUMBERS[name][1]))
        return self._parsed(name, text, node)

    def _parsed(self, name, text, node):
        try:
            return SETTINGS[name].parse(text)
        except ValueError as error:
            self.refuse(node, f"{name}: {error}")

    def _scalar(self, node):
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, "expected one value (text such as {} needs quotes)")
        return node.value

    def refuse(self, node, why):
        """Raises ConfigError that tells where `node` is; None: the pool."""
        node = node or self.node
        raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: pool {self.name}: {why}")

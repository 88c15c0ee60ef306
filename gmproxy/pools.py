"""twemproxy's nutcracker.yml: many pools, each a listen address with its own servers, read as it is.

A pool may also set anything of our own settings table that is not a matter of the whole process, under its own name. Every mistake is
told with file, line and pool: the file is read as a tree of nodes that know where they stand.
"""

import yaml

from gmproxy.errors import ConfigError
from gmproxy.settings import POOL_SETTINGS, SETTINGS, servers, yes_or_no

#: What twemproxy does where a pool says nothing and our own default is another. Its timeout is "for ever": ours stays.
TWEMPROXY_DEFAULTS = {
    "hash": "fnv1a_64",
    "distribution": "ketama",
    "backlog": 512,
    "max_connections": 0,
    "server_connections": 1,
    "server_failure_limit": 2,
}

#: twemproxy's name -> ours, where they differ.
RENAMED = {"servers": "server", "backups": "backup", "client_connections": "max_connections", "unix_socket_mode": "unix_mode"}

#: Keys that only a redis pool can have.
REDIS_KEYS = ("redis_auth", "redis_db")

TWEMPROXY_DISTRIBUTIONS = ("ketama", "modula", "random")


def read(path):
    """{pool name: {setting: value}} of the file `path`, without what it leaves to defaults. Raises ConfigError."""
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
    pools = {}
    for name_node, node in root.value:
        name = name_node.value
        if name in pools:
            raise ConfigError(f"{path}:{name_node.start_mark.line + 1}: pool {name}: there are two of this name")
        pools[name] = _Pool(path, name, node).settings()
    return pools


class _Pool:
    """Reads one pool; knows how to say where a mistake is."""

    def __init__(self, path, name, node):
        self.path = path
        self.name = name
        self.node = node

    def settings(self):
        if not isinstance(self.node, yaml.MappingNode):
            self._refuse(self.node, "expected keys such as listen and servers")
        found = dict(TWEMPROXY_DEFAULTS)
        seen = set()
        for key_node, node in self.node.value:
            key = key_node.value
            if key in seen:
                self._refuse(key_node, f"{key} is set twice")
            seen.add(key)
            self._take(key, key_node, node, found)
        for key in ("listen", "servers"):
            if key not in seen:
                self._refuse(self.node, f"{key} is missing")
        if "profile" in seen:  # it brings its own
            for name in {"hash", "distribution"} - seen:
                found[name] = ""
        elif "distribution" in seen and "hash" not in seen and found["distribution"] not in TWEMPROXY_DISTRIBUTIONS:
            found["hash"] = ""
        return found

    def _take(self, key, key_node, node, found):
        if key == "listen":
            self._listen(node, found)
        elif key == "redis":
            if yes_or_no(self._scalar(node)):
                self._refuse(node, "redis: gmproxy serves memcached pools only; leave this one to twemproxy")
        elif key in REDIS_KEYS:
            self._refuse(key_node, f"{key}: gmproxy serves memcached pools only")
        else:
            name = RENAMED.get(key, key)
            if name not in POOL_SETTINGS or key in ("server", "backup", "port", "unix_socket"):
                self._refuse(key_node, f"there is no key {key!r}")
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
            self._refuse(node, f"listen: {text!r} is neither address:port nor /path")
        found.update(listen=host, port=self._parsed("port", port, node))
        if found["port"] == 0:
            self._refuse(node, f"listen: {text!r} has no port")

    def _servers(self, key, node):
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._refuse(node, f"{key}: expected a list of - host:port:weight [name]")
        found = []
        labels = set()
        for item in node.value:
            (server,) = self._parsed_servers(key, item)
            for label in filter(None, (server.label, server.name)):
                if label in labels:
                    self._refuse(item, f"{key}: {label} is there twice")
                labels.add(label)
            found.append(server)
        return found

    def _parsed_servers(self, key, node):
        text = self._scalar(node)
        parsed = self._parsed("server", text, node)
        if len(parsed) != 1:
            self._refuse(node, f"{key}: {text!r} is more than one server")
        return parsed

    def _value(self, name, node):
        return self._parsed(name, self._scalar(node), node)

    def _parsed(self, name, text, node):
        try:
            return SETTINGS[name].parse(text)
        except ValueError as error:
            self._refuse(node, f"{name}: {error}")

    def _scalar(self, node):
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "expected one value (text such as {} needs quotes)")
        return node.value

    def _refuse(self, node, why):
        raise ConfigError(f"{self.path}:{node.start_mark.line + 1}: pool {self.name}: {why}")

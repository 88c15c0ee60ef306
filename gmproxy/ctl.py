"""gmproxyctl: what an operator asks. `route` needs no running proxy: it tells where keys go under given options.

Exit status: 0 fine, 1 keys do not match (route --check), 2 the question cannot be answered as put.
"""

import base64
import dataclasses
import json
import os
import sys

from gmproxy import conf
from gmproxy.address import parse_servers
from gmproxy.errors import ConfigError, GmproxyError

USAGE = """usage: gmproxyctl route KEY... [--pool NAME] [options of gmproxy]
       gmproxyctl route --check FILE.json [options of gmproxy]

route prints for each KEY its hash, its server and its backup.

  --check FILE   FILE is JSON with "servers" (list) and "keys" (key -> index into servers), and perhaps "weights", "names",
                 "keys_b64" (base64 of keys that are no text), "backups", "backup_keys", "backup_keys_b64". Servers come
                 from it unless -s is given. Prints how many keys match.
  --pool NAME    the pool meant, where the options name a file of several
"""

MISMATCHES_SHOWN = 10


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    try:
        if arguments[0] != "route":
            raise ConfigError(f"there is no command {arguments[0]!r}: see gmproxyctl --help")
        status = route(arguments[1:])
        sys.stdout.flush()
        return status
    except GmproxyError as error:
        print(f"gmproxyctl: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def route(arguments):
    """Returns the exit status. Raises ConfigError."""
    parser = conf.parser_for("gmproxyctl route")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--pool", metavar="NAME")
    given = conf.read_arguments(parser, arguments, os.environ)
    if given["check"] is not None:
        if given["keys"]:
            raise ConfigError("say keys or --check FILE, not both")
        return _check(given)
    if not given["keys"]:
        raise ConfigError("which key? see gmproxyctl --help")
    routes = Routes(_chosen(conf.configs(given), given["pool"]))
    for key in given["keys"]:
        print(routes.describe(os.fsencode(key)))
    return 0


def _chosen(configs, name):
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
        self.primaries = conf.placement_for(config, config.server)
        self.backups = conf.placement_for(config, config.backup) if config.backup else None

    def describe(self, key):
        words = [
            f"key={_show(key)}",
            f"hash={self.primaries.hash(key)}",
            f"server={self.config.server[self.primaries.locate(key)]}",
        ]
        if self.backups is not None:
            words.append(f"backup={self.config.backup[self.backups.locate(key)]}")
        return " ".join(words)


def _check(given):
    facts = _read(given["check"])
    if given["server"] is None and not given["pools"]:
        given["server"] = [_servers(facts, "servers", facts.get("weights"), facts.get("names"))]
        if given["backup"] is None and facts.get("backups"):
            given["backup"] = [_servers(facts, "backups", None, None)]
    routes = Routes(_chosen(conf.configs(given), given["pool"]))
    right, wrong = _compare(routes.primaries, routes.config.server, _keys(facts, "keys"))
    if routes.backups is not None:
        more_right, more_wrong = _compare(routes.backups, routes.config.backup, _keys(facts, "backup_keys"))
        right += more_right
        wrong += more_wrong
    print(f"{right} of {right + len(wrong)} match")
    for line in wrong[:MISMATCHES_SHOWN]:
        print(line)
    if len(wrong) > MISMATCHES_SHOWN:
        print(f"... and {len(wrong) - MISMATCHES_SHOWN} more")
    return 1 if wrong or not right else 0


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("servers"), list):
        raise ConfigError(f"{path}: expected an object with servers and keys")
    return facts


def _servers(facts, what, weights, names):
    """The servers of a file, with the weights and names that stand beside them."""
    found = []
    try:
        for index, text in enumerate(facts[what]):
            (server,) = parse_servers(text)
            weight = weights[index] if weights else server.weight
            if not weight > 0:
                raise ValueError(f"weight {weight} of {text} is not positive")
            name = names[index] if names else server.name
            found.append(dataclasses.replace(server, weight=int(weight) if weight == int(weight) else weight, name=name or None))
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return found


def _keys(facts, what):
    """[(key, index)], the keys that are no text decoded."""
    try:
        pairs = [(key.encode(), int(index)) for key, index in facts.get(what, {}).items()]
        pairs += [(base64.b64decode(key, validate=True), int(index)) for key, index in facts.get(f"{what}_b64", {}).items()]
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return pairs


def _compare(placement, servers, pairs):
    """(number of keys where they should be, a line for each other)."""
    wrong = []
    for key, expected in pairs:
        index = placement.locate(key)
        if index != expected:
            there = servers[expected] if 0 <= expected < len(servers) else f"server number {expected}"
            wrong.append(f"key={_show(key)} here={servers[index]} there={there}")
    return len(pairs) - len(wrong), wrong


def _show(key):
    """`key` for a terminal: text as it is, else as Python writes bytes."""
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() and " " not in text and text.encode() == key else repr(key)


if __name__ == "__main__":
    sys.exit(main())

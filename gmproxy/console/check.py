"""gmproxyctl route --check FILE: is the placement the one that was observed?"""

import base64
import dataclasses
import json

from gmproxy.config import configuration
from gmproxy.console.placed import Routes, chosen, show
from gmproxy.errors import ConfigError
from gmproxy.placement.server_spec import parse_servers

MISMATCHES_SHOWN = 10


def check(given):
    """Compare; returns the exit status. `given`: what was read of the command line. Raises ConfigError."""
    facts = _read(given["check"])
    if given["server"] is None and not given["pools"]:
        given["server"] = [_servers(facts, "servers", facts.get("weights"), facts.get("names"))]
        if given["backup"] is None and facts.get("backups"):
            given["backup"] = [_servers(facts, "backups", None, None)]
    routes = Routes(chosen(configuration.configs(given), given["pool"]))
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
            wrong.append(f"key={show(key)} here={servers[index]} there={there}")
    return len(pairs) - len(wrong), wrong

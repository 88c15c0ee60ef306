"""gmproxyctl route --check FILE: compare the placement of a configuration with one that was observed."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from gmproxy.config import configuration
from gmproxy.console.offline_routes import OfflineRoutes, select_pool, show_key
from gmproxy.errors import ConfigError
from gmproxy.placement.builder import Placement
from gmproxy.placement.server_spec import Server, parse_servers

MISMATCHES_SHOWN = 10


def check(arguments: dict[str, Any]) -> int:
    """Compare; returns the exit status. `arguments`: what was read of the command line. Raises ConfigError."""
    facts = _read_facts(arguments["check"])
    if arguments["server"] is None and not arguments["pools"]:
        arguments["server"] = [_servers(facts, "servers", facts.get("weights"), facts.get("names"))]
        if arguments["backup"] is None and facts.get("backups"):
            arguments["backup"] = [_servers(facts, "backups", None, None)]
    routes = OfflineRoutes(select_pool(configuration.make_configs(arguments), arguments["pool"]))
    matches, mismatches = _compare(routes.primaries, routes.config.server, _keys(facts, "keys"))
    if routes.backups is not None:
        more_matches, more_mismatches = _compare(routes.backups, routes.config.backup, _keys(facts, "backup_keys"))
        matches += more_matches
        mismatches += more_mismatches
    print(f"{matches} of {matches + len(mismatches)} match")
    for line in mismatches[:MISMATCHES_SHOWN]:
        print(line)
    if len(mismatches) > MISMATCHES_SHOWN:
        print(f"... and {len(mismatches) - MISMATCHES_SHOWN} more")
    return 1 if mismatches or not matches else 0


def _read_facts(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("servers"), list):
        raise ConfigError(f"{path}: expected an object with servers and keys")
    return facts


def _servers(facts: dict[str, Any], what: str, weights: Sequence[float] | None, names: Sequence[str] | None) -> list[Server]:
    """The servers of a file, with the weights and names that stand beside them. Raises ConfigError."""
    servers = []
    try:
        for index, text in enumerate(facts[what]):
            (server,) = parse_servers(text)
            weight = weights[index] if weights else server.weight
            if not weight > 0:
                raise ValueError(f"weight {weight} of {text} is not positive")
            name = names[index] if names else server.name
            servers.append(dataclasses.replace(server, weight=int(weight) if weight == int(weight) else weight, name=name or None))
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return servers


def _keys(facts: dict[str, Any], what: str) -> list[tuple[bytes, int]]:
    """[(key, index)]; keys in base64 are decoded. Raises ConfigError."""
    try:
        pairs = [(key.encode(), int(index)) for key, index in facts.get(what, {}).items()]
        pairs += [(base64.b64decode(key, validate=True), int(index)) for key, index in facts.get(f"{what}_b64", {}).items()]
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return pairs


def _compare(placement: Placement, servers: Sequence[Server], pairs: Sequence[tuple[bytes, int]]) -> tuple[int, list[str]]:
    """(number of keys where they should be, a line for each of the others)."""
    mismatches = []
    for key, expected in pairs:
        index = placement.locate(key)
        if index != expected:
            there = servers[expected] if 0 <= expected < len(servers) else f"server number {expected}"
            mismatches.append(f"key={show_key(key)} here={servers[index]} there={there}")
    return len(pairs) - len(mismatches), mismatches

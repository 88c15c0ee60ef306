"""gmproxyctl route --check FILE: compares the placement of keys under a configuration with known placements."""

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

#: Maximum number of mismatches that are printed.
MISMATCHES_SHOWN = 10


def check(arguments: dict[str, Any]) -> int:
    """Compare, and print the result. `arguments`: from configuration.read_arguments. Returns the exit status. Raises ConfigError."""
    placements = _read_placements(arguments["check"])
    if arguments["server"] is None and not arguments["pools"]:
        arguments["server"] = [_servers(placements, "servers", placements.get("weights"), placements.get("names"))]
        if arguments["backup"] is None and placements.get("backups"):
            arguments["backup"] = [_servers(placements, "backups", None, None)]
    routes = OfflineRoutes(select_pool(configuration.make_configs(arguments), arguments["pool"]))
    matches, mismatches = _compare(routes.primaries, routes.config.server, _keys(placements, "keys"))
    if routes.backups is not None:
        more_matches, more_mismatches = _compare(routes.backups, routes.config.backup, _keys(placements, "backup_keys"))
        matches += more_matches
        mismatches += more_mismatches
    print(f"{matches} of {matches + len(mismatches)} match")
    for line in mismatches[:MISMATCHES_SHOWN]:
        print(line)
    if len(mismatches) > MISMATCHES_SHOWN:
        print(f"... and {len(mismatches) - MISMATCHES_SHOWN} more")
    return 1 if mismatches or not matches else 0


def _read_placements(path: str) -> dict[str, Any]:
    """The JSON object in the file. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            placements = json.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if not isinstance(placements, dict) or not isinstance(placements.get("servers"), list):
        raise ConfigError(f"{path}: expected an object with servers (a list) and keys")
    return placements


def _servers(placements: dict[str, Any], what: str, weights: Sequence[float] | None, names: Sequence[str] | None) -> list[Server]:
    """The list `what` of servers, with their `weights` and `names` unless these are None. Raises ConfigError."""
    servers = []
    try:
        for index, text in enumerate(placements[what]):
            (server,) = parse_servers(text)
            weight = weights[index] if weights else server.weight
            if not weight > 0:
                raise ValueError(f"weight {weight} of {text} is not above 0")
            name = names[index] if names else server.name
            servers.append(dataclasses.replace(server, weight=int(weight) if weight == int(weight) else weight, name=name or None))
    except (ValueError, IndexError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return servers


def _keys(placements: dict[str, Any], what: str) -> list[tuple[bytes, int]]:
    """[(key, index of its server)] from the objects `what` and `what`_b64, whose keys are base64. Raises ConfigError."""
    try:
        pairs = [(key.encode(), int(index)) for key, index in placements.get(what, {}).items()]
        pairs += [(base64.b64decode(key, validate=True), int(index)) for key, index in placements.get(f"{what}_b64", {}).items()]
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"bad {what}: {error}") from None
    return pairs


def _compare(placement: Placement, servers: Sequence[Server], pairs: Sequence[tuple[bytes, int]]) -> tuple[int, list[str]]:
    """(number of keys on the expected server, a line for each of the others)"""
    mismatches = []
    for key, expected in pairs:
        index = placement.locate(key)
        if index != expected:
            known = servers[expected] if 0 <= expected < len(servers) else f"server number {expected}"
            mismatches.append(f"key={show_key(key)} here={servers[index]} there={known}")
    return len(pairs) - len(mismatches), mismatches

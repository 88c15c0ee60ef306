"""gmproxyctl route: where keys go, by a configuration or in the running service at this moment."""

import os
from collections.abc import Sequence
from typing import Any

from gmproxy.config import configuration
from gmproxy.config.settings import POOL_SETTINGS, SETTINGS, option_name
from gmproxy.console import route_check
from gmproxy.console.offline_routes import OfflineRoutes, select_pool, show_key
from gmproxy.console.service_client import ServiceClient, print_json
from gmproxy.errors import ConfigError


def route(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parser = configuration.parser_for("gmproxyctl route")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--pool", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    typed = configuration.read_arguments(parser, arguments, {})
    running = typed["control"] is not None and not typed["config"]
    parsed = typed if running else configuration.read_arguments(parser, arguments, os.environ)
    if parsed["check"] is not None:
        if parsed["keys"]:
            raise ConfigError("say keys or --check FILE, not both")
        return route_check.check(parsed)
    if not parsed["keys"]:
        raise ConfigError("which key? see gmproxyctl --help")
    routes = _routes_by_service(parsed) if running else _routes_by_configuration(parsed)
    if parsed["json"]:
        print_json([{**route, "key": show_key(os.fsencode(route["key"]))} for route in routes])
    else:
        print("\n".join(map(_line, routes)))
    return 0


def _routes_by_configuration(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    routes = OfflineRoutes(select_pool(configuration.make_configs(parsed), parsed["pool"]))
    return [{"key": key, **routes.route_key(os.fsencode(key))} for key in parsed["keys"]]


def _routes_by_service(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    """Of all its pools, if none is named. Raises ConfigError, ServiceError."""
    for name in POOL_SETTINGS:
        if parsed[name] is not None:
            raise ConfigError(f"{option_name(SETTINGS[name])} beside --control: the running service has its own")
    pools = ServiceClient(parsed["control"]).send_command("route", *parsed["keys"])["pools"]
    if parsed["pool"] is not None and parsed["pool"] not in pools:
        raise ConfigError(f"there is no pool {parsed['pool']!r}; known: {', '.join(pools)}")
    wanted = pools if parsed["pool"] is None else [parsed["pool"]]
    several = len(wanted) > 1
    return [{"pool": pool, **route} if several else route for pool in wanted for route in pools[pool]]


def _line(route: dict[str, Any]) -> str:
    """`route` as a line: what the service adds to hash and servers is shown only where it is not as usual."""
    words = [f"pool={route['pool']}"] if "pool" in route else []
    words += [f"key={show_key(os.fsencode(route['key']))}", f"hash={route['hash']}", f"server={route['server']}"]
    if route.get("state", "up") != "up":
        words.append(f"state={route['state']}")
    if route.get("goes_to", route["server"]) != route["server"]:
        words.append(f"goes_to={route['goes_to']}")
    if route.get("backup"):
        words.append(f"backup={route['backup']}")
    if route.get("backup_state") not in (None, "up"):
        words.append(f"backup_state={route['backup_state']}")
    return " ".join(words)

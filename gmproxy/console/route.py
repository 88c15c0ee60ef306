"""gmproxyctl route: where keys go, by a configuration or in the running service at this moment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from gmproxy.config import configuration
from gmproxy.config.command_line import ArgumentParser, parser_for
from gmproxy.config.settings import POOL_SETTINGS, SETTINGS, option_name
from gmproxy.console import route_check
from gmproxy.console.offline_routes import OfflineRoutes, select_pool, show_key
from gmproxy.console.service_client import ServiceClient, check_pool, print_json
from gmproxy.errors import ConfigError

#: Where the servers of a service are that is configured by its environment alone.
SERVERS_IN_ENVIRONMENT = ("GMPROXY_SERVER", "GMPROXY_POOLS")


def route_parser() -> ArgumentParser:
    """Every setting of gmproxy is an option of it, though its help does not list them."""
    parser = parser_for("gmproxyctl route")
    for action in parser._actions:
        action.help = argparse.SUPPRESS
    parser.usage = (
        "gmproxyctl route KEY... [--pool NAME] [--json] [--control PATH]\n"
        "       gmproxyctl route KEY... [--pool NAME] [--json] OPTIONS OF gmproxy\n"
        "       gmproxyctl route --check FILE [--pool NAME] [OPTIONS OF gmproxy]"
    )
    parser.description = (
        "Show where keys go: in the running service at this moment, or, where options of gmproxy (-s, -c, --pools, --profile ...) are given, "
        "under these, without a service."
    )
    parser.epilog = "Options of gmproxy: see gmproxy --help-all."
    section = parser.add_argument_group("Options")
    section.add_argument("keys", nargs="*", metavar="KEY")
    section.add_argument("--check", metavar="FILE", help="compare with where keys were observed, and print how many match")
    section.add_argument("--pool", metavar="NAME", help="for this pool alone")
    section.add_argument("--json", action="store_true", help="the response as JSON")
    return parser


def route(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parser = route_parser()
    typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    if typed["check"] is not None and typed["keys"]:
        raise ConfigError("say keys or --check FILE, not both")
    if typed["check"] is None and not typed["keys"]:
        raise ConfigError("which key? see gmproxyctl route --help")
    if typed["check"] is None and _asks_service(typed, os.environ):
        return _print_routes(typed, _routes_by_service(typed))
    parsed = configuration.read_arguments(parser, arguments, os.environ)
    if parsed["check"] is not None:
        return route_check.check(parsed)
    return _print_routes(parsed, _routes_by_configuration(parsed))


def _asks_service(typed: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """False if a configuration is `typed`, or servers stand in the environment, and no control socket is named in the same place."""
    if typed["control"]:
        return True
    if typed["config"] or typed["pools"] or any(typed[name] is not None for name in POOL_SETTINGS):
        return False
    return bool(environment.get("GMPROXY_CONTROL")) or not any(map(environment.get, SERVERS_IN_ENVIRONMENT))


def _print_routes(parsed: dict[str, Any], routes: list[dict[str, Any]]) -> int:
    if parsed["json"]:
        print_json([{**route, "key": show_key(os.fsencode(route["key"]))} for route in routes])
    else:
        for route in routes:
            print(_line(route), *_way(route), sep="\n")
    return 0


def _routes_by_configuration(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    routes = OfflineRoutes(select_pool(configuration.make_configs(parsed), parsed["pool"]))
    return [{"key": key, **routes.route_key(os.fsencode(key))} for key in parsed["keys"]]


def _routes_by_service(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    """Of all its pools, if none is named. Raises ConfigError, ServiceError."""
    for name in POOL_SETTINGS:
        if parsed[name] is not None:
            raise ConfigError(f"{option_name(SETTINGS[name])} beside --control: the running service has its own")
    pools = ServiceClient.find(parsed["control"], None).send_command("route", *parsed["keys"])["pools"]
    check_pool(parsed["pool"], pools)
    wanted = pools if parsed["pool"] is None else [parsed["pool"]]
    several = len(wanted) > 1
    return [{"pool": pool, **route} if several else route for pool in wanted for route in pools[pool]]


def _way(route: dict[str, Any]) -> list[str]:
    """Lines with the steps of reads and of changes, where others than the key's own server take part."""
    if max(len(route.get(what, ())) for what in ("reads", "changes")) < 2:
        return []
    hops = [(what, hop) for what in ("reads", "changes") for hop in route[what]]
    return [f"  {what:<8} {hop['step']:<10} {hop['server']}  {hop['reason']}" for what, hop in hops]


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

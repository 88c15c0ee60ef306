"""gmproxyctl route: the servers of keys, in the running service at this moment or under a configuration."""

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
from gmproxy.monitoring.rates import is_ejected

#: Variables that give the servers of a service that is configured by the environment alone.
SERVERS_IN_ENVIRONMENT = ("GMPROXY_SERVER", "GMPROXY_POOLS")


def route_parser() -> ArgumentParser:
    """A parser that also has all options of gmproxy; its help does not list them."""
    parser = parser_for("gmproxyctl route")
    for action in parser._actions:
        action.help = argparse.SUPPRESS
    parser.usage = (
        "gmproxyctl route KEY... [--pool NAME] [--json] [--control PATH]\n"
        "       gmproxyctl route KEY... [--pool NAME] [--json] GMPROXY-OPTION...\n"
        "       gmproxyctl route --check FILE [--pool NAME] [GMPROXY-OPTION...]"
    )
    parser.description = (
        "Print the server of each key, with its backup and replicas: those of the running service at this moment, or, with options of gmproxy "
        "(-s, -c, --pools, --profile ...), those under these options, without a running service."
    )
    parser.epilog = "Options of gmproxy: see gmproxy --help-all."
    section = parser.add_argument_group("Options")
    section.add_argument("keys", nargs="*", metavar="KEY", help="a key")
    section.add_argument("--check", metavar="FILE", help="compare with the known placements in this JSON file, and print how many match")
    section.add_argument("--pool", metavar="NAME", help="only this pool")
    section.add_argument("--json", action="store_true", help="print the response as JSON")
    return parser


def route(arguments: Sequence[str]) -> int:
    """Returns the exit status. Raises ConfigError, ServiceError."""
    parser = route_parser()
    typed = vars(parser.parse_args(arguments, env_vars={}, config_file_contents=""))
    if typed["check"] is not None and typed["keys"]:
        raise ConfigError("give either keys or --check FILE, not both")
    if typed["check"] is None and not typed["keys"]:
        raise ConfigError("no key given: see gmproxyctl route --help")
    if typed["check"] is None and _is_for_service(typed, os.environ):
        return _print_routes(typed, _routes_by_service(typed))
    parsed = configuration.read_arguments(parser, arguments, os.environ)
    if parsed["check"] is not None:
        return route_check.check(parsed)
    return _print_routes(parsed, _routes_by_configuration(parsed))


def _is_for_service(typed: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """False if the command line (`typed`) has a configuration and no control socket, or else the environment has servers and no control socket."""
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
            print(_line(route), *_sets(route), *_steps(route), sep="\n")
    return 0


def _routes_by_configuration(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    routes = OfflineRoutes(select_pool(configuration.make_configs(parsed), parsed["pool"]))
    return [{"key": key, **routes.route_key(os.fsencode(key))} for key in parsed["keys"]]


def _routes_by_service(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    """The routes in --pool, or in all pools of the service. Raises ConfigError, ServiceError."""
    for name in POOL_SETTINGS:
        if parsed[name] is not None:
            raise ConfigError(f"{option_name(SETTINGS[name])} cannot be combined with --control: the running service has its own settings")
    pools = ServiceClient.find(parsed["control"], None).send_command("route", *parsed["keys"])["pools"]
    check_pool(parsed["pool"], pools)
    selected = pools if parsed["pool"] is None else [parsed["pool"]]
    several = len(selected) > 1
    return [{"pool": pool, **route} if several else route for pool in selected for route in pools[pool]]


def _sets(route: dict[str, Any]) -> list[str]:
    """A line for each set, in a pool with replicas: the server of the key there."""
    sets = route.get("sets", [])
    if not any(one["role"].startswith("replica") for one in sets):
        return []
    lines = []
    for one in sets:
        facts = [one["state"] if one["enabled"] else "switched off"]
        facts += [f"zone {one['zone']}"] if one["zone"] else []
        facts += ["missed a write of the key; it is deleted there before it is read"] if one["owed"] and one["enabled"] else []
        lines.append(f"  set      {one['set']:<10} {one['server']}  {'; '.join(facts)}")
    return lines


def _steps(route: dict[str, Any]) -> list[str]:
    """A line for each step of reads and of changes, if more servers than one take part in either. While the server is ejected, reads have no fill:
    that begins with a miss of this server."""
    reads, changes = route.get("reads", []), route.get("changes", [])
    if max(len(reads), len(changes)) < 2:
        return []
    if is_ejected(route) and route["goes_to"] == route["server"]:
        reads = [hop for hop in reads if hop["step"] != "fill"]
    if route["goes_to"] != route["server"]:
        why = f"stand-in for {route['server']}, which is {route['state']}"
        reads = [hop | {"reason": f"{hop['reason']}; {why}"} if hop["step"] == "server" else hop for hop in reads]
    hops = [(what, hop) for what, hops in (("reads", reads), ("changes", changes)) for hop in hops]
    return [f"  {what:<8} {hop['step']:<10} {hop['server']}  {hop['reason']}" for what, hop in hops]


def _line(route: dict[str, Any]) -> str:
    """`route` as one line. States are printed only if they are not `up`, and goes_to only if it is another server."""
    words = [f"pool={route['pool']}"] if "pool" in route else []
    words += [f"key={show_key(os.fsencode(route['key']))}", f"hash={route['hash']}", f"server={route['server']}"]
    if route.get("state", "up") != "up":
        words.append(f"state={route['state']}")
    if route.get("goes_to", route["server"]) != route["server"]:
        words.append(f"goes_to={route['goes_to']}")
    if route.get("backup"):
        words.append(f"backup={route['backup']}")
    if route.get("replicas"):
        words.append(f"replicas={','.join(route['replicas'])}")
    if route.get("gutter"):
        words.append(f"gutter={route['gutter']}")
    if route.get("backup_state") not in (None, "up"):
        words.append(f"backup_state={route['backup_state']}")
    return " ".join(words)

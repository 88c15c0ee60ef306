"""gmproxyctl route: where keys go, as a configuration says, or as the running service does it at this moment."""

import os

from gmproxy.config import configuration
from gmproxy.config.settings import POOL_SETTINGS, SETTINGS, option_name
from gmproxy.console import check
from gmproxy.console.placed import Routes, chosen, show
from gmproxy.console.service import ServiceClient, print_json
from gmproxy.errors import ConfigError


def route(arguments):
    """Returns the exit status. Raises ConfigError, Refused."""
    parser = configuration.parser_for("gmproxyctl route")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--check", metavar="FILE")
    parser.add_argument("--pool", metavar="NAME")
    parser.add_argument("--json", action="store_true")
    typed = configuration.read_arguments(parser, arguments, {})
    running = typed["control"] is not None and not typed["config"]
    given = typed if running else configuration.read_arguments(parser, arguments, os.environ)
    if given["check"] is not None:
        if given["keys"]:
            raise ConfigError("say keys or --check FILE, not both")
        return check.check(given)
    if not given["keys"]:
        raise ConfigError("which key? see gmproxyctl --help")
    routes = _of_service(given) if running else _of_configuration(given)
    if given["json"]:
        print_json([{**route, "key": show(os.fsencode(route["key"]))} for route in routes])
    else:
        for found in routes:
            print(_line(found))
    return 0


def _of_configuration(given):
    routes = Routes(chosen(configuration.configs(given), given["pool"]))
    return [{"key": key, **routes.of(os.fsencode(key))} for key in given["keys"]]


def _of_service(given):
    """From all its pools, if none is named."""
    for name in POOL_SETTINGS:
        if given[name] is not None:
            raise ConfigError(f"{option_name(SETTINGS[name])} beside --control: the running service has its own")
    pools = ServiceClient(given["control"]).ask("route", *given["keys"])["pools"]
    if given["pool"] is not None and given["pool"] not in pools:
        raise ConfigError(f"there is no pool {given['pool']!r}; known: {', '.join(pools)}")
    wanted = pools if given["pool"] is None else [given["pool"]]
    several = len(wanted) > 1
    return [{"pool": pool, **route} if several else route for pool in wanted for route in pools[pool]]


def _line(found):
    """`found` as words: what the service adds to hash and servers is only said where it is not as usual."""
    words = [f"pool={found['pool']}"] if "pool" in found else []
    words += [f"key={show(os.fsencode(found['key']))}", f"hash={found['hash']}", f"server={found['server']}"]
    if found.get("state", "up") != "up":
        words.append(f"state={found['state']}")
    if found.get("goes_to", found["server"]) != found["server"]:
        words.append(f"goes_to={found['goes_to']}")
    if found.get("backup"):
        words.append(f"backup={found['backup']}")
    if found.get("backup_state") not in (None, "up"):
        words.append(f"backup_state={found['backup_state']}")
    return " ".join(words)

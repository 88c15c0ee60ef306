"""Proxies that are compared: gmproxy, and memcached's own proxy with its library of routes. Each has three sets of two servers behind relays."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from faults.stage import OPTIONS, TIMEOUT, Node, NodeSet
from support.relay import Relay
from support.servers import Memcached, Proxy, server_options
from support.timing import PROGRAM_TIMEOUT

SETS, SERVERS = 3, 2

#: Zones of the sets. The proxies are in the first one.
ZONES = ("near", "far", "farther")

#: Seconds until memcached's proxy tries a failed server again: it takes whole seconds only.
RETRY_AFTER = 1

SETTINGS = """\
settings{{ backend_connect_timeout = {timeout}, backend_read_timeout = {timeout}, backend_retry_waittime = {retry}, backend_failure_limit = 3 }}
local_zone("{zone}")
pools{{ set_all = {{ {pools} }} }}
"""

#: {name: routes of memcached's proxy}. The last one reads the nearest set first, as its documentation advises.
ROUTES = {
    "allsync": 'routes{ default = route_allsync{ children = "set_all" } }',
    "allfastest": 'routes{ default = route_allfastest{ children = "set_all" } }',
    "zfailover": """\
local near = function() return route_zfailover{ children = "set_all", miss = true } end
routes{ cmap = { get = near(), gets = near(), mg = near() }, default = route_allsync{ children = "set_all" } }
""",
}

#: {name: options of gmproxy}
POLICIES = {
    "write = main": ("--write", "main"),
    "write = majority": ("--write", "majority"),
    "write = all": ("--write", "all"),
    "write = majority, read = spread": ("--write", "majority", "--read", "spread"),
}


class Contender:
    """A proxy that is running, with servers of its own. `sets` are NodeSets."""

    def __init__(self, stack: ExitStack, launch: Callable[[ExitStack, list[NodeSet]], int]) -> None:
        self.sets = [NodeSet(f"set {number}", [_node(stack, number) for _ in range(SERVERS)]) for number in range(1, SETS + 1)]
        self.nodes = [node for one in self.sets for node in one.nodes]
        self.port = launch(stack, self.sets)

    @property
    def victims(self) -> list[Node | NodeSet]:
        """What may fail: each server, and each set."""
        return [*self.nodes, *self.sets]


def _node(stack, number):
    server = stack.enter_context(Memcached())
    return Node(f"server of set {number}", server, stack.enter_context(Relay(server)))


def gmproxy(policy: str) -> Callable[[ExitStack, list[NodeSet]], int]:
    """Launches gmproxy with one of POLICIES."""

    def launch(stack, sets):
        main, *replicas = [one.nodes for one in sets]
        return stack.enter_context(Proxy(*server_options(main, (), replicas), *OPTIONS, *POLICIES[policy])).port

    return launch


def memcached_proxy(program: str, folder: Path, routes: str) -> Callable[[ExitStack, list[NodeSet]], int]:
    """Launches memcached's proxy with one of ROUTES. memcached must be able to read `folder`."""

    def launch(stack, sets):
        pools = [f"{zone} = {{ backends = {{ {', '.join(_quoted(one.nodes))} }} }}" for zone, one in zip(ZONES, sets)]
        settings = SETTINGS.format(timeout=TIMEOUT, retry=RETRY_AFTER, zone=ZONES[0], pools=", ".join(pools))
        file = folder / f"{routes}.lua"
        file.write_text(settings + ROUTES[routes] + "\n")
        return stack.enter_context(Memcached("-o", f"proxy_config=routelib,proxy_arg={file}", "-t", "2", program=program)).port

    return launch


def _quoted(nodes):
    return [f'"{node.address}"' for node in nodes]


def is_proxy(program: str) -> bool:
    """True if this memcached was built with its proxy."""
    helps = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    return "proxy_config" in helps.stdout

"""File descriptors: how many this process may open, and how many of them are left for clients.

Links to servers, listeners, the log and everything else of the proxy come first: clients get what is left of RLIMIT_NOFILE. Otherwise
clients could take every descriptor, and no server could be reached.
"""

import resource
from typing import Any, NamedTuple

from gmproxy.system import sockets

#: The log, the epoll sets of the loop and of silent clients, operators at the control socket, channels between master and worker, name
#: resolution, files read at a reload, and the spare descriptor of listeners (transport/accept.py).
OWN = 64

#: For each listening socket: itself, the duplicate that is handed over at an upgrade, and the connections accepted in one turn of the loop
#: that have no session yet.
FOR_LISTENER = 2
ACCEPTED_AT_ONCE = 16

#: For each admin listener: its connections (transport/accept.py keeps to it), and itself as above.
ADMIN_CONNECTIONS = 32

#: For each server, beside its links: a probe, and the connection on which it is asked for its `stats`.
FOR_SERVER = 2

#: Busy clients that share a link to each server (client/sessions.py) before the next ones get a second. Fewer links gather more requests in one
#: send; more let a large value pass beside the small ones.
CLIENTS_PER_CONNECTION = 512

#: Clients that are turned away and have not yet read why (client/listener.py).
MAX_FAREWELLS = 32

#: Clients to make room for where a pool sets no limit.
UNLIMITED_CLIENTS = 65536


class OpenFiles(NamedTuple):
    """
    limit     open files that this process may have
    wanted    open files needed for all clients that the configuration allows, and for all links
    clients   that may be connected, in all pools of this process: at least 1
    """

    limit: int
    wanted: int
    clients: int


def reserve(configs: list, workers: int = 1) -> OpenFiles:
    """Raise the limit of open files to what the pools `configs` (config.configuration.Config) need in one of `workers` processes, as far as that is
    allowed. Raises nothing. May be called from a loop callback or a greenlet: it does not wait."""
    per_server = [_connections_per_server(config, workers) for config in configs]
    fixed = _fixed(configs)
    links = sum(count * _servers(config) for config, count in zip(configs, per_server))
    clients = sum(config.max_connections or UNLIMITED_CLIENTS for config in configs)
    limit = raise_limit(fixed + links + clients)
    wanted = fixed + links + sum(config.max_connections for config in configs)
    return OpenFiles(limit, wanted, _clients(configs, per_server, limit - fixed))


def raise_limit(wanted: int) -> int:
    """Raise the limit of open files to `wanted`. Returns the limit in force, which may be lower. Raises nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return soft
    for limits in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (OSError, ValueError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _servers(config: Any) -> int:
    return len(config.server) + len(config.backup)


def _connections_per_server(config: Any, workers: int) -> int:
    """Links to each server of the pool `config`, in each of `workers` processes, at most."""
    return 1 if config.backup else max(-(-config.server_connections // workers), 1)


def _fixed(configs: list) -> int:
    """What is needed whatever clients do."""
    listening = sum(len(sockets.listen_addresses(config)) for config in configs)
    admin = len(sockets.admin_addresses(configs[0]))
    servers = sum(map(_servers, configs))
    return (
        OWN
        + MAX_FAREWELLS
        + ACCEPTED_AT_ONCE * listening
        + FOR_LISTENER * (listening + admin)
        + ADMIN_CONNECTIONS * admin
        + FOR_SERVER * servers
    )


def _clients(configs: list, per_server: list[int], left: int) -> int:
    """Number of clients that can be accepted beside the links that they use, where `left` descriptors are left for both.

    Each CLIENTS_PER_CONNECTION clients open one link to each server, and one more for long answers (client/session.py): where there are few
    descriptors and many servers, a few clients leave most links closed.
    """
    best = 1
    for used in range(2, max(*per_server, 2) + 1):
        room = left - sum(min(count, used) * _servers(config) for config, count in zip(configs, per_server))
        if used < max(per_server):
            room = min(room, (used - 1) * CLIENTS_PER_CONNECTION)
        best = max(best, room)
    return best

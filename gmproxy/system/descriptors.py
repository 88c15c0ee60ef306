"""File descriptors: the open files limit of this process, and the number of clients that it leaves room for.

Descriptors for connections to servers, listeners, the log and so on are reserved; clients get the rest of RLIMIT_NOFILE. Otherwise clients could
use every descriptor, and no connection to a server could be opened.
"""

import resource
from collections.abc import Sequence
from typing import Any, NamedTuple

from gmproxy.system import sockets

#: Reserved for the log, the epoll sets of the loop and of idle clients, operators at the control socket, channels between master and workers,
#: name resolution, files read at a reload, and the spare descriptor of listeners (transport/accept.py).
OWN = 64

#: Reserved for each listening socket: the socket and the duplicate for a successor; and connections accepted in one turn of the loop that have
#: no session yet.
FOR_LISTENER = 2
ACCEPTED_AT_ONCE = 16

#: Maximum number of connections to an admin listener (transport/accept.py), each reserved.
ADMIN_CONNECTIONS = 32

#: Reserved for each server beside the connections for requests: a probe, and the connection for its `stats`.
FOR_SERVER = 2

#: Number of busy clients that share one connection to each server (client/sessions.py) before the next clients use a second one. With fewer
#: connections more requests share a send; with more, a large value delays fewer small ones.
CLIENTS_PER_CONNECTION = 512

#: Maximum number of refused clients that have not read the error line yet (client/listener.py).
MAX_REJECTIONS = 32

#: Number of clients to reserve for in a pool without a limit (`-n 0`).
UNLIMITED_CLIENTS = 65536


class OpenFiles(NamedTuple):
    """The open files limit and what follows from it.

    limit     open files limit of this process
    wanted    open files needed for all connections to servers and for all clients that the configuration allows
    clients   maximum number of clients in all pools of this process, at least 1
    """

    limit: int
    wanted: int
    clients: int


def reserve(configs: Sequence[Any], workers: int = 1) -> OpenFiles:
    """Raise the open files limit to what the pools `configs` (config.configuration.Config) need in one of `workers` processes, as far as the hard
    limit and the privileges allow. Raises nothing. Loop callback or greenlet."""
    per_server = [_connections_per_server(config, workers) for config in configs]
    fixed = _fixed(configs)
    connections = sum(count * _servers(config) for config, count in zip(configs, per_server))
    clients = sum(config.max_connections or UNLIMITED_CLIENTS for config in configs)
    limit = raise_limit(fixed + connections + clients)
    wanted = fixed + connections + sum(config.max_connections for config in configs)
    return OpenFiles(limit, wanted, _clients(configs, per_server, limit - fixed))


def raise_limit(wanted: int) -> int:
    """Raise the open files limit to `wanted`. Returns the limit in force, which may be lower. Raises nothing."""
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
    """The number of servers of the pool, with its backups and those of pools that have a role in it."""
    in_roles = [*config.replicas, config.gutter] if config.gutter is not None else config.replicas
    return len(config.server) + len(config.backup) + sum(len(one.server) for one in in_roles)


def _connections_per_server(config: Any, workers: int) -> int:
    """The maximum number of connections to each server of the pool `config`, in each of `workers` processes."""
    return 1 if config.backup or config.replicas else max(-(-config.server_connections // workers), 1)


def _fixed(configs: Sequence[Any]) -> int:
    """The number of reserved descriptors, without connections to servers for requests."""
    listening = sum(len(sockets.listen_addresses(config)) for config in configs)
    admin = len(sockets.admin_addresses(configs[0]))
    servers = sum(map(_servers, configs))
    return (
        OWN
        + MAX_REJECTIONS
        + ACCEPTED_AT_ONCE * listening
        + FOR_LISTENER * (listening + admin)
        + ADMIN_CONNECTIONS * admin
        + FOR_SERVER * servers
    )


def _clients(configs: Sequence[Any], per_server: list[int], left: int) -> int:
    """The number of clients that can be accepted if `left` descriptors are left for them and for the connections to servers that they use.

    Every CLIENTS_PER_CONNECTION clients use one connection to each server, and one more for long replies (client/session.py). With few descriptors
    and many servers it is therefore better to accept so few clients that most connections to servers are never opened.
    """
    best = 1
    for used in range(2, max(*per_server, 2) + 1):
        room = left - sum(min(count, used) * _servers(config) for config, count in zip(configs, per_server))
        if used < max(per_server):
            room = min(room, (used - 1) * CLIENTS_PER_CONNECTION)
        best = max(best, room)
    return best

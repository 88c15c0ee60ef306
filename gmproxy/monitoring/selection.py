"""The pools and servers that the arguments of a control command name. Loop callback or greenlet."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gmproxy.monitoring.interfaces import MonitoredPool, MonitoredWorker

if TYPE_CHECKING:
    from gmproxy.backend.backend import Backend
    from gmproxy.routing.sets import ServerSet


class PoolServer(NamedTuple):
    """A server of a pool. `role`: primary, backup, gutter, or replica1, replica2 ... (gmproxy.shared.invalidation_marks)."""

    pool: MonitoredPool
    role: str
    backend: "Backend"


def find_pools(worker: MonitoredWorker, names: Sequence[str]) -> list[MonitoredPool]:
    """[the pool whose name or title is names[0]]; without names, all pools. Raises LookupError."""
    pools = list(worker.pools.values())
    if names and not (named := [pool for pool in pools if names[0] in (pool.title, pool.config.name)]):
        raise LookupError(f"there is no pool {names[0]!r}; known: {', '.join(pool.title for pool in pools)}")
    return named if names else pools


def all_servers(pools: Iterable[MonitoredPool]) -> list[PoolServer]:
    """The servers of each of `pools`: the primaries, then those of each further set."""
    return [PoolServer(pool, backend.role, backend) for pool in pools for one in all_sets(pool) for backend in one.backends]


def all_sets(pool: MonitoredPool) -> "list[ServerSet]":
    """The sets of servers of `pool`: the main set, the backup or the replicas, the gutter."""
    gutter = pool.router.gutter
    return [*pool.router.sets, *([] if gutter is None else [gutter])]


def find_servers(pools: Iterable[MonitoredPool], names: Iterable[str]) -> list[PoolServer]:
    """The servers of `pools` with these addresses or names. Raises LookupError."""
    servers = all_servers(pools)
    found: list[PoolServer] = []
    for name in names:
        matches = [server for server in servers if name in (server.backend.label, server.backend.server.name)]
        if not matches:
            raise LookupError(f"there is no server {name!r}")
        found += matches
    return found

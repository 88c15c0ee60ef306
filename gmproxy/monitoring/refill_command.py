"""The control commands about refills (refill.py): one worker fills a server from the other sets.

    refill                            the refills that run, and the last one of each server
    refill-begin SERVER [RATE [POOL]] begin; RATE: maximum number of keys per second
    refill-stop SERVER [POOL]         stop

SERVER is an address or a name. Each returns {"refills": [...]} (Refill.describe), of the servers concerned.
"""

import itertools
from collections.abc import Sequence

from gmproxy.monitoring.interfaces import MonitoredWorker, Response
from gmproxy.monitoring.selection import PoolServer, find_pools, find_servers

#: Keys per second: default and maximum.
RATE, MOST_RATE = 1000, 100_000

#: Maximum number of refills at a time, and of those that have ended that are remembered. Each has the listing of one server, on disk if it is long.
MAX_RUNNING = 4
MAX_ENDED = 50

#: The worker that does it.
WORKER = 0


# -- in a worker. Loop callback or greenlet. Each returns its response, or raises LookupError


def show(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`refill`."""
    return {"refills": [refill.describe() for refill in worker.refills.values()]}


def begin(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`refill-begin`. {"refills": []} if this is not the worker that does it."""
    servers = _find_servers(worker, arguments[:1], arguments[2:3])
    rate = _parse_rate(arguments[1:2])
    for server in servers:
        _check(server)
    if worker.context.number != WORKER:
        return {"refills": []}
    from gmproxy.monitoring import refill  # needs gevent, which the master must not import

    refills = worker.refills
    keys = [(server.pool.title, server.role, server.backend.label) for server in servers]
    for key in keys:
        if key in refills and refills[key].is_running():
            raise LookupError(f"{key[2]} is being refilled: see gmproxyctl refill")
    running = sum(one.is_running() for one in refills.values())
    if running + len(servers) > MAX_RUNNING:
        raise LookupError(f"too many refills at a time: at most {MAX_RUNNING}")
    ended = [key for key, one in refills.items() if not one.is_running()]
    for key in ended[: max(len(ended) - MAX_ENDED, 0)]:
        del refills[key]
    for key, server in zip(keys, servers):
        refills.pop(key, None)
        refills[key] = refill.Refill(server.pool, server.backend, rate)
    return {"refills": [refills[key].describe() for key in keys]}


def stop(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`refill-stop`."""
    stopped = []
    for pool, role, backend in _find_servers(worker, arguments[:1], arguments[1:2]):
        refill = worker.refills.get((pool.title, role, backend.label))
        if refill is not None and refill.is_running():
            refill.stop_refilling()
            stopped.append(refill.describe())
    return {"refills": stopped}


def _find_servers(worker: MonitoredWorker, names: Sequence[str], pools: Sequence[str]) -> list[PoolServer]:
    if not names or not names[0]:
        raise LookupError("no server given")
    return find_servers(find_pools(worker, [pool for pool in pools if pool]), names)


def _parse_rate(arguments: Sequence[str]) -> int:
    text = arguments[0] if arguments else str(RATE)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_RATE:
        raise LookupError(f"{text!r} is not a number of keys per second from 1 to {MOST_RATE}")
    return int(text)


def _check(server: PoolServer) -> None:
    """Raises LookupError if the server cannot be refilled."""
    pool, role, backend = server
    options = backend.options
    if len(pool.router.sets) == 1:
        raise LookupError(f"pool {pool.title} has no replicas or backups")
    if options.backend_protocol == "binary":
        raise LookupError(f"the servers of pool {pool.title} cannot list their keys (backend_protocol = binary)")
    if not pool.router.options.fills_enabled:
        raise LookupError("fills are off: see gmproxyctl fills")
    if role == "backup":
        raise LookupError(f"{backend.label} is a backup: backups are not filled")
    if pool.router.options.backup_writes == "off":
        raise LookupError(f"the backups of pool {pool.title} receive no copies (backup_writes = off)")
    if pool.router.fill_of(backend) is None:
        raise LookupError(f"{backend.label} has no other set to be filled from: see gmproxyctl replica")


# -- the responses of all workers as one


def merge(responses: Sequence[Response]) -> Response:
    """The refills of all `responses`. Worker or master."""
    return {"refills": list(itertools.chain.from_iterable(response["refills"] for response in responses))}

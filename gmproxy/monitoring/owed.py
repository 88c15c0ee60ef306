"""The control commands about pending invalidations (gmproxy.backend.invalidations), and how the responses of all workers are merged.

    owed [SERVER [POOL [KEYS]]]    the servers that have some; with SERVER also up to KEYS keys of each worker
    owed-flush SERVER [POOL]       flush the server instead of deleting the keys one by one
    owed-drop SERVER [POOL]        forget them

SERVER is an address or a name, "" all servers; POOL a name, "" all pools. Each returns {"servers": [...]}, without the servers that have no pending
invalidations, unless SERVER names them.
"""

import itertools
import os
from collections.abc import Sequence
from typing import Any

from gmproxy.monitoring.interfaces import MonitoredWorker, Response
from gmproxy.monitoring.selection import PoolServer, all_servers, find_pools, find_servers

#: Keys in a response of each worker: default and maximum.
KEYS_SHOWN, MOST_SHOWN = 20, 1000


# -- in a worker. Loop callback or greenlet. Each returns its response, or raises LookupError


def show(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`owed`."""
    servers, is_named = _servers(worker, arguments)
    limit = _limit(arguments[2:]) if is_named else 0
    return {"servers": [_describe(worker, server, limit) for server in servers if is_named or server.backend.invalidations]}


def flush(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`owed-flush`: each worker with pending invalidations flushes the server, as soon as it can be reached."""
    behind = _behind(worker, arguments)
    described = [_describe(worker, server, 0) for server in behind]
    for _, _, backend in behind:
        backend.log.warning("flushing by hand server=%s", backend.label)
        backend.missed_everything()
        if backend.health.ejected and not backend.health.by_hand:
            backend.health.release(worker.now())  # the next probe is due now; if it succeeds, the server is flushed and restored
    return {"servers": described}


def drop(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """`owed-drop`."""
    behind = _behind(worker, arguments)
    described = [_describe(worker, server, 0) for server in behind]
    for (_, _, backend), one in zip(behind, described):
        backend.log.warning("missed writes dropped by hand server=%s keys=%s", backend.label, "all" if one["everything"] else one["keys"])
        backend.forget_missed_writes()
    return {"servers": described}


def _servers(worker: MonitoredWorker, arguments: Sequence[str]) -> tuple[list[PoolServer], bool]:
    """(the servers that `arguments` select, whether they name one)"""
    name = arguments[0] if arguments else ""
    pools = find_pools(worker, [pool for pool in arguments[1:2] if pool])
    return (find_servers(pools, [name]), True) if name else (all_servers(pools), False)


def _behind(worker: MonitoredWorker, arguments: Sequence[str]) -> list[PoolServer]:
    if not arguments or not arguments[0]:
        raise LookupError("no server given")
    servers, _ = _servers(worker, arguments)
    return [server for server in servers if server.backend.invalidations]


def _limit(arguments: Sequence[str]) -> int:
    text = arguments[0] if arguments else str(KEYS_SHOWN)
    if not text.isascii() or not text.isdigit() or int(text) > MOST_SHOWN:
        raise LookupError(f"{text!r} is not a number from 0 to {MOST_SHOWN}")
    return int(text)


def _describe(worker: MonitoredWorker, server: PoolServer, limit: int) -> dict[str, Any]:
    backend = server.backend
    invalidations = backend.invalidations
    return {
        "pool": server.pool.title,
        "role": server.role,
        "label": backend.label,
        "name": backend.server.name or "",
        "keys": len(invalidations),
        "everything": invalidations.pending() is None,
        "age": max(worker.now() - invalidations.since, 0.0) if invalidations.since else 0.0,
        "ejected": backend.health.ejected,
        "by_hand": backend.health.by_hand,
        "switched_off": backend.health_checker.suspended,
        "sample": [os.fsdecode(key) for key in itertools.islice(invalidations.pending() or (), limit)],
    }


# -- the responses of all workers as one


def merge(responses: Sequence[Response]) -> Response:
    """The servers of all `responses`; the keys of all workers are added. Worker or master."""
    merged: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in (server for response in responses for server in response["servers"]):
        whole = merged.setdefault((one["pool"], one["role"], one["label"]), one)
        if whole is not one:
            whole["keys"] += one["keys"]
            whole["age"] = max(whole["age"], one["age"])
            whole["sample"] = list(dict.fromkeys(whole["sample"] + one["sample"]))
            for name in ("everything", "ejected", "by_hand", "switched_off"):
                whole[name] = whole[name] or one[name]
    return {"servers": list(merged.values())}

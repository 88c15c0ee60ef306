"""The control command `replica [NAME [on|off [POOL]]]`: shows the replica sets, or switches one off or on, in one pool or in all that have it.

A set that is off is sent nothing. What is written meanwhile it has missed: once it is on again, each of its servers is flushed before it is read.
"""

from collections.abc import Sequence
from typing import Any

from gmproxy.monitoring.interfaces import MonitoredWorker, Response
from gmproxy.monitoring.selection import find_pools

ON, OFF = "on", "off"


def is_on(word: str) -> bool:
    """True for `on`, False for `off`. Raises LookupError."""
    if word not in (ON, OFF):
        raise LookupError(f"{word!r} is neither on nor off")
    return word == ON


# -- in a worker. Loop callback or greenlet


def switch(worker: MonitoredWorker, arguments: list[str]) -> Response:
    """{"replicas": [{"pool", "replica", "role", "zone", "servers": labels, "state": on or off}]}. Raises LookupError."""
    pools = [(pool, pool.replicas()) for pool in find_pools(worker, arguments[2:3])]
    known = list(dict.fromkeys(one.name for _, replicas in pools for one in replicas))
    if not known:
        raise LookupError(f"pool {arguments[2]} has no replicas" if arguments[2:3] else "no pool has replicas")
    if arguments and arguments[0] not in known:
        raise LookupError(f"there is no replica {arguments[0]!r}; known: {', '.join(known)}")
    if len(arguments) > 1:
        state = is_on(arguments[1])
        for pool, _ in pools:
            pool.switch_replica(arguments[0], state)
    return {
        "replicas": [
            {
                "pool": pool.title,
                "replica": one.name,
                "role": one.backends[0].role,
                "zone": one.zone,
                "servers": [backend.label for backend in one.backends],
                "state": ON if one.enabled else OFF,
            }
            for pool, replicas in pools
            for one in replicas
            if one.name in (arguments[:1] or [one.name])
        ]
    }


# -- the responses of all workers as one


def merge(responses: Sequence[Response]) -> Response:
    """Each replica once; it is off if a worker has it off. Worker or master."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for one in (replica for response in responses for replica in response["replicas"]):
        whole = merged.setdefault((one["pool"], one["replica"]), one)
        if one["state"] == OFF:
            whole["state"] = OFF
    return {"replicas": list(merged.values())}

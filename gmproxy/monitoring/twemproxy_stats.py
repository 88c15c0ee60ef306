"""The report in the JSON format of twemproxy's stats port, for programs that read twemproxy's counters."""

import json
import socket
from collections.abc import Mapping
from typing import Any

from gmproxy.config.nutcracker_options import VERSION
from gmproxy.monitoring.interfaces import Report

#: Reason words that twemproxy counts as server_eof and as server_timedout; all others are server_err.
EOF_REASONS, TIMEOUT_REASONS = ("closed",), ("timeout",)

#: Reason words of requests that were not sent: twemproxy counts them in none of these.
NOT_SENT = ("ejected", "overload")


def render(report: Report) -> bytes:
    """`report` as JSON in one line, without a line end. Loop callback or greenlet."""
    pools = report["pools"].values()
    emulated = any(pool["options"]["compat"] == "nutcracker" for pool in pools)
    # As in twemproxy, these count all sockets: of clients, of servers, and a listening one for each pool.
    opened = len(pools) + sum(backend["connects"] for pool in pools for backend in pool["backends"])
    are_open = len(pools) + sum(backend["links"] for pool in pools for backend in pool["backends"])
    return _object(
        {
            "service": "nutcracker" if emulated else "gmproxy",
            "source": socket.gethostname(),
            "version": VERSION if emulated else report["version"],
            "uptime": int(report["time"] - report["started"]),
            "timestamp": int(report["time"]),
            "total_connections": opened + sum(pool["clients"]["accepted"] for pool in pools),
            "curr_connections": are_open + sum(pool["clients"]["current"] for pool in pools),
            **{title: _pool(pool) for title, pool in report["pools"].items()},
        }
    ).encode()


def _object(values: Mapping[str, Any]) -> str:
    """JSON with the blanks where twemproxy has them, since some programs compare the text: `"name":1, "pool": {...},"pool": {...}`."""
    text = "".join(
        f"{json.dumps(name)}: {_object(value)}," if isinstance(value, Mapping) else f"{json.dumps(name)}:{json.dumps(value)}, "
        for name, value in values.items()
    )
    return f"{{{text.rstrip(', ')}}}"


def _pool(pool: dict[str, Any]) -> dict[str, Any]:
    clients, backends = pool["clients"], pool["backends"]
    servers: dict[str, dict[str, Any]] = {}
    for backend in backends:
        name = backend["name"] or backend["label"].removeprefix("unix:")
        servers[name if name not in servers else f"{name} {backend['role']}"] = _server(backend)
    ended = clients["accepted"] - clients["current"] - clients["rejected"] - clients["dropped"]
    return {
        "client_eof": max(ended, 0),
        "client_err": clients["dropped"],
        "client_connections": clients["current"],
        "server_ejects": sum(backend["ejections"] for backend in backends),
        "forward_error": sum(sum(backend["errors"].values()) for backend in backends),
        "fragments": pool["fragments"],
        **servers,
    }


def _server(backend: dict[str, Any]) -> dict[str, Any]:
    errors = backend["errors"]
    requests = sum(backend["requests"].values())
    failed = sum(count for reason, count in errors.items() if reason not in NOT_SENT)
    eof, late = (sum(errors.get(reason, 0) for reason in reasons) for reasons in (EOF_REASONS, TIMEOUT_REASONS))
    return {
        "server_eof": eof,
        "server_err": failed - eof - late,
        "server_timedout": late,
        "server_connections": backend["links"],
        "server_ejected_at": int(backend["ejected_at"] * 1_000_000),
        "requests": requests + failed + backend["in_flight"],
        "request_bytes": backend["bytes_sent"],
        "responses": requests,
        "response_bytes": backend["bytes_received"],
        "in_queue": backend["unsent"],
        "in_queue_bytes": backend["backlog"],
        "out_queue": backend["in_flight"] - backend["unsent"],
        "out_queue_bytes": backend["bytes_waiting"] - backend["backlog"],
    }

"""The report in the format of twemproxy's stats port, so that what reads twemproxy's counters reads ours."""

import json
import socket
from typing import Any

from gmproxy.monitoring.interfaces import Report

#: Why requests failed, as twemproxy sorts it; what is not here is a server_err.
EOF_REASONS, TIMEOUT_REASONS = ("closed",), ("timeout",)

#: No request was sent: no error of the server's.
NOT_SENT = ("ejected", "overload")


def render(report: Report) -> bytes:
    """JSON without line breaks."""
    pools = {title: _pool(pool) for title, pool in report["pools"].items()}
    clients = [pool["clients"] for pool in report["pools"].values()]
    return json.dumps(
        {
            "service": "gmproxy",
            "source": socket.gethostname(),
            "version": report["version"],
            "uptime": int(report["time"] - report["started"]),
            "timestamp": int(report["time"]),
            "total_connections": sum(one["accepted"] for one in clients),
            "curr_connections": sum(one["current"] for one in clients),
            **pools,
        }
    ).encode()


def _pool(pool: dict[str, Any]) -> dict[str, Any]:
    clients, backends = pool["clients"], pool["backends"]
    servers: dict[str, dict[str, Any]] = {}
    for backend in backends:
        name = backend["name"] or backend["label"]
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

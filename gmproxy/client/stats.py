"""The replies to `stats` and `version`: as from memcached or, with `--compat magent`, as from magent.

All functions: loop callback or greenlet; none blocks.
"""

import os
import resource
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gmproxy import __version__, internal_errors
from gmproxy.client import server_totals, stat_names
from gmproxy.client.interfaces import MAX_BATCH, ClientContext
from gmproxy.client.server_totals import Pairs, ServerReplies
from gmproxy.config.configuration import UNNAMED
from gmproxy.config.settings import SETTINGS, render
from gmproxy.system.descriptors import OWN

#: The oldest memcached that gmproxy is tested with: a client library that derives features from the version uses none that a server lacks.
PROTOCOL_VERSION = "1.6.18"

#: One word that begins with digits: libmemcached drops a server without them, and prometheus' memcached_exporter one with two words.
#: It ends in three numbers: npm's memcached takes these for the version, and raises an exception if there are none.
FULL_VERSION = f"{PROTOCOL_VERSION}-gmproxy-{__version__}"

VERSION = f"VERSION {FULL_VERSION}\r\n".encode()

MAGENT_NAME = b"memcached agent v0.6"
MAGENT_VERSION = b"VERSION " + MAGENT_NAME + b"\r\n"

END = b"END\r\n"
ERROR = b"ERROR\r\n"

#: The argument of `stats` that requests a key listing (protocol/key_dump.py).
CACHEDUMP = b"cachedump"

#: The reply to `stats gmproxy-backup` (protocol/internal_commands.py).
SERVES_PROXY = b"STAT gmproxy-backup 1\r\n" + END

#: Commands that memcached counts as cmd_set.
STORES = ("set", "add", "replace", "append", "prepend", "cas", "ms")

#: Arguments of `stats` whose reply is joined from those of the servers.
OF_SERVERS = (b"items", b"slabs", b"sizes", b"extstore")

#: Seconds for which no client is accepted after a lack of file descriptors or memory (transport/accept.py).
ACCEPT_PAUSE = 0.1

#: How the values of several workers are joined, where that is not their sum.
MERGED_BY = {
    "pid": max,
    "uptime": max,
    "time": max,
    "version": max,
    "libevent": max,
    "pointer_size": max,
    "max_connections": max,
    "reserved_fds": max,
    "accepting_conns": max,
    "backends": max,
    "sets": max,
    "sets_off": max,
    "backends_ejected": max,
    "backends_behind": max,
}

#: Gauges among the values that are summed.
OF_NOW = (
    "curr_connections",
    "sleeping_connections",
    "bytes_held",
    "connection_structures",
    "response_obj_count",
    "response_obj_bytes",
    "read_buf_count",
    "read_buf_bytes",
    "read_buf_bytes_free",
    "threads",
    "backend_links",
    "links_lingering",
    "changes_undecided",
    "fetches",
    "journal_keys",
)


#: The values of one process, or of several joined, as JSON can hold them.
Snapshot = dict[str, Any]


def general(service: ClientContext) -> Pairs:
    """The values of a plain `stats`, without those that only servers know. In memcached's order, as far as memcached has them."""
    router = service.router
    primaries = router.backends
    everyone = primaries + router.backups
    own = {**_of_process(service), **_of_clients(service), **_of_commands(service)}
    return [
        *((name, own[name]) for name in stat_names.GENERAL if name in own),
        ("sleeping_connections", service.clients.idle()),
        ("dropped_connections", service.dropped),
        ("bytes_held", service.held),
        ("internal_errors", internal_errors.count()),
        ("backends", len(primaries)),
        ("sets", len(router.sets)),
        ("sets_off", sum(not one.enabled for one in router.sets)),
        ("backends_ejected", sum(backend.health.ejected for backend in everyone)),
        ("backend_requests", sum(backend.counters.replies for backend in everyone)),
        ("backend_failures", sum(backend.counters.failures for backend in everyone)),
        ("backend_links", sum(connection is not None for backend in everyone for connection in backend.connections)),
        ("links_lingering", sum(len(backend.half_closed) for backend in everyone)),
        ("changes_undecided", len(router.held) + len(router.undecided)),
        ("fetches", sum(len(backend.fetches) for backend in everyone)),
        ("get_errors_as_misses", router.counters.misses_for_errors),
        ("backup_writes_lost", router.counters.backup_writes_lost),
        ("backup_writes_differed", router.counters.backup_writes_differed),
        ("refills", sum(backend.counters.fills for backend in everyone)),
        ("ejections", sum(backend.health.ejections for backend in everyone)),
        ("backends_behind", sum(backend.behind for backend in everyone)),
        ("journal_keys", sum(len(backend.invalidations) for backend in everyone)),
        ("journal_deleted", sum(backend.counters.keys_deleted for backend in everyone)),
        ("journal_flushes", sum(backend.counters.flushes for backend in everyone)),
    ]


def _of_process(service: ClientContext) -> dict[str, object]:
    from gevent.core import get_version  # not at the top: the master imports this module, and has no gevent

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "uptime": int(time.monotonic() - service.worker_context.started_at),
        "time": int(time.time()),
        "version": FULL_VERSION,
        "libevent": get_version(),  # of the event loop that gevent uses
        "pointer_size": struct.calcsize("P") * 8,
        "rusage_user": usage.ru_utime,
        "rusage_system": usage.ru_stime,
        "reserved_fds": OWN,
        "threads": 1,
    }


def _of_clients(service: ClientContext) -> dict[str, object]:
    bytes_read, bytes_written = service.clients.traffic()
    return {
        "max_connections": service.max_clients,
        "curr_connections": len(service.clients),
        "total_connections": service.connections,
        "rejected_connections": service.rejected,
        "connection_structures": len(service.clients),
        "response_obj_oom": service.dropped,
        "response_obj_count": 0,
        "response_obj_bytes": 0,
        "read_buf_count": 0,
        "read_buf_bytes": service.held,
        "read_buf_bytes_free": 0,
        "read_buf_oom": 0,  # a client that is dropped for lack of memory counts as response_obj_oom
        "auth_cmds": service.auth_cmds,
        "auth_errors": service.auth_errors,
        "bytes_read": bytes_read,
        "bytes_written": bytes_written,
        "accepting_conns": int(service.worker_context.accepting),
        "listen_disabled_num": service.accept_failures,
        "time_in_listen_disabled_us": int(service.accept_failures * ACCEPT_PAUSE * 1e6),
        "conn_yields": service.yields,
    }


def _of_commands(service: ClientContext) -> dict[str, object]:
    """The counters by command, from the replies of the primaries. Where reads are sent to any set (`read`), those of all sets count."""
    router = service.router
    counters = [backend.counters for backend in router.backends]
    readers = counters if service.options.read == "first" else counters + [backend.counters for backend in router.backups]
    commands = [one.replies_by_command() for one in counters]
    outcomes = {
        name: [sum(counts) for counts in zip(*(one.outcomes(name.encode()) for one in counters))]
        for name in ("delete", "incr", "decr", "cas", "touch")
    }
    keys_touched = sum(one.keys_touched for one in counters)
    touches_found = sum(one.touches_found for one in counters)
    cmd_get = sum(one.keys_asked - one.keys_touched for one in readers)
    get_hits = sum(one.values_found - one.touches_found for one in readers)
    counted: dict[str, object] = {
        "cmd_get": cmd_get,
        "cmd_set": sum(one.get(name, 0) for one in commands for name in STORES),
        "cmd_flush": service.flushes,
        "cmd_touch": sum(one.get("touch", 0) for one in commands) + keys_touched,
        "cmd_meta": sum(one.get("me", 0) for one in commands),
        "get_hits": get_hits,
        "get_misses": cmd_get - get_hits,
        "cas_badval": outcomes["cas"][2],
    }
    for name, (hits, misses, _) in outcomes.items():
        counted |= {f"{name}_hits": hits, f"{name}_misses": misses}
    return counted | {
        "touch_hits": outcomes["touch"][0] + touches_found,
        "touch_misses": outcomes["touch"][1] + keys_touched - touches_found,
    }


def snapshot(service: ClientContext) -> Snapshot:
    """The values of this process, for `merge`."""
    links = [[backend.label, sum(connection is not None for connection in backend.connections)] for backend in service.router.backends]
    return {"general": dict(general(service)), "links": links}


def counted(snapshot: Snapshot) -> Snapshot:
    """The counters of the snapshot of a process that has ended: gauges and all that is not a sum are 0."""
    idle = [name for name, value in snapshot["general"].items() if name in OF_NOW or (name in MERGED_BY and not isinstance(value, str))]
    return {"general": snapshot["general"] | dict.fromkeys(idle, 0), "links": []}


def merge(snapshots: Sequence[Snapshot], pid: int) -> Snapshot:
    """Joins `snapshots`, at least one, to that of the whole service, with the process ID `pid`."""
    first = snapshots[0]
    whole = {name: MERGED_BY.get(name, sum)([each["general"][name] for each in snapshots]) for name in first["general"]}
    links = [[same[0][0], sum(count for _, count in same)] for same in zip(*(each["links"] for each in snapshots if each["links"]))]
    return {"general": whole | {"pid": pid}, "links": links}


def settings(service: ClientContext, replies: ServerReplies) -> Pairs:
    """The values of `stats settings`: those of memcached, then every setting of the proxy."""
    options = service.options
    facts = (
        server_totals.settings(replies)
        | {
            "maxconns": service.max_clients,
            "tcpport": options.port,
            "udpport": 0,
            "inter": options.listen,
            "verbosity": int(options.verbose),
            "domain_socket": options.unix_socket or "NULL",
            "umask": options.unix_mode or 0,
            "shutdown_command": "no",
            "num_threads": service.worker_context.workers,
            "num_threads_per_udp": 0,
            "detail_enabled": "no",
            "reqs_per_event": MAX_BATCH,
            "tcp_backlog": options.backlog,
            "binding_protocol": "auto-negotiate",
            "auth_enabled_sasl": _yes_or_no(options.auth_file),
            "auth_enabled_ascii": _yes_or_no(options.auth_file),
            "item_size_max": options.max_item_size,
            "maxconns_fast": "yes",
            "flush_enabled": _yes_or_no(not options.disable_flush_all),
            "dump_enabled": _yes_or_no(not options.disable_dumping),
            "idle_timeout": 0,
            "inline_ascii_response": "no",
            "proxy_enabled": "no",
            "proxy_uring_enabled": "no",
            "num_napi_ids": 0,
        }
        | dict.fromkeys((name for name in stat_names.SETTINGS if name.startswith("ssl_")), 0)
        | {"ssl_enabled": "no"}
    )
    return [
        *((name, facts[name]) for name in stat_names.SETTINGS),
        *((name, render(setting, getattr(options, name)) or "-") for name, setting in SETTINGS.items()),
    ]


def _yes_or_no(value: object) -> str:
    return "yes" if value else "no"


#: First argument of `stats`, or none -> the command (gmproxy.monitoring.control_commands) that is sent to all workers for it.
_WORKER_COMMANDS = {b"": "stats", b"proxy": "stats", b"reset": "reset", b"pools": "report", b"backends": "report"}


def worker_command(words: list[bytes]) -> str | None:
    """The command that is sent to all workers for `stats` with the arguments `words`; None if none is. As in memcached, further words are
    ignored."""
    return _WORKER_COMMANDS.get(words[0] if words else b"")


def needs_servers(words: list[bytes]) -> bool:
    """True if the reply to `stats` with the arguments `words` needs those of the servers."""
    return not words or words[0] in (*OF_SERVERS, b"settings")


def reply(
    service: ClientContext,
    words: list[bytes],
    as_magent: bool = False,
    whole: Snapshot | None = None,
    replies: ServerReplies | None = None,
    former: ServerReplies | None = None,
) -> bytes:
    """The reply to `stats` with the arguments `words`.

    whole     the joined result of `worker_command` from all workers; None: this process is the only one
    replies   the replies of the servers to the same `stats`, if it needs them
    former    the replies of the servers to an earlier one, for those that did not reply this time
    """
    name = words[0] if words else b""
    if name in (b"", b"proxy"):
        values = whole or snapshot(service)
        if as_magent and not words:
            return _as_magent(values["links"])
        return _lines(_with_servers(values["general"], {} if words else server_totals.general(replies or {}, former or {})))
    if name in (b"pools", b"backends"):
        report = whole or service.worker_context.report()
        return _lines(_of_pools(report) if name == b"pools" else _of_backends(report["pools"][service.options.name or UNNAMED]))
    if name == b"settings":
        return _lines(settings(service, replies or {}))
    if name == b"sizes":
        return _lines(server_totals.sizes(replies or {}))
    if name in OF_SERVERS:
        return _lines(server_totals.classes(replies or {}, [backend.label for backend in service.router.backends]))
    if name == b"conns":
        return END  # a client gets no information about other clients
    if name == b"reset":
        service.reset_counters()
        return b"RESET\r\n"
    return ERROR


def _with_servers(own: dict[str, object], of_servers: dict[str, object]) -> Pairs:
    """The values of `stats`: all of memcached in its order, then gmproxy's own, then others of the servers. Where both have a value, the
    proxy's is used."""
    facts = of_servers | own
    return [(name, facts[name]) for name in dict.fromkeys([*stat_names.GENERAL, *own, *of_servers]) if name in facts]


# -- from a report (monitoring/report.py)


def _of_pools(report: Snapshot) -> Iterator[tuple[str, object]]:
    for title, pool in report["pools"].items():
        backends = pool["backends"]
        facts = {
            "curr_connections": pool["clients"]["current"],
            "total_connections": pool["clients"]["accepted"],
            "rejected_connections": pool["clients"]["rejected"],
            "bytes_read": pool["clients"]["bytes_read"],
            "bytes_written": pool["clients"]["bytes_written"],
            "backends": sum(one["role"] == "primary" for one in backends),
            "backups": sum(one["role"] == "backup" for one in backends),
            "replicas": sum(one["role"].startswith("replica") for one in backends),
            "backends_ejected": sum(one["state"] in ("ejected", "probing") for one in backends),
            "requests": sum(sum(one["requests"].values()) for one in backends),
            "errors": sum(sum(one["errors"].values()) for one in backends),
        }
        yield from ((f"{_word(title)}:{name}", value) for name, value in facts.items())


def _of_backends(pool: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for number, one in enumerate(pool["backends"], 1):
        facts = {
            "address": one["label"],
            "name": _word(one["name"]) or "-",
            "role": one["role"],
            "set": _word(one["set"]),
            "zone": _word(one["zone"]) or "-",
            "state": one["state"] if one["enabled"] else "off",
            "links": one["links"],
            "in_flight": one["in_flight"],
            "requests": sum(one["requests"].values()),
            "errors": sum(one["errors"].values()),
            "get_hits": one["hits"],
            "get_misses": one["keys"] - one["hits"],
            "bytes_sent": one["bytes_sent"],
            "bytes_received": one["bytes_received"],
            "ejections": one["ejections"],
            "journal_keys": one["journal"],
        }
        yield from ((f"{number}:{name}", value) for name, value in facts.items())


def _word(text: str) -> str:
    """`text` without spaces, which end a name."""
    return "_".join(text.split())


# -- lines


def _lines(pairs: Iterable[tuple[str, object]]) -> bytes:
    return b"".join(f"STAT {name} {_number(value)}\r\n".encode() for name, value in pairs) + END


def _number(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) else value


def _as_magent(links: list[list[Any]]) -> bytes:
    """As magent: one line for each primary, with the number of open connections to it."""
    lines = [f"matrix {number} -> {label}, pool size {count}".encode() for number, (label, count) in enumerate(links, 1)]
    return b"\r\n".join([MAGENT_NAME, *lines]) + b"\r\n" + END

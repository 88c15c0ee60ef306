"""What `stats` and `version` answer: memcached's way, or magent's where an old script expects it."""

import os
import resource
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gmproxy import __version__, internal_errors
from gmproxy.client.interfaces import ClientContext
from gmproxy.config.configuration import UNNAMED
from gmproxy.config.settings import SETTINGS, render
from gmproxy.protocol.numbers import plain_number

#: The memcached whose text protocol is spoken. libmemcached drops a server whose version does not begin with digits.
PROTOCOL_VERSION = "1.6.18"

VERSION = f"VERSION {PROTOCOL_VERSION} gmproxy-{__version__}\r\n".encode()

MAGENT_NAME = b"memcached agent v0.6"
MAGENT_VERSION = b"VERSION " + MAGENT_NAME + b"\r\n"

END = b"END\r\n"
#: The answer to `stats gmproxy-backup` (protocol/internal_commands.py).
SERVES_PROXY = b"STAT gmproxy-backup 1\r\n" + END

#: Commands that store, and that touch, by memcached's counters.
STORES = ("set", "add", "replace", "append", "prepend", "cas", "ms")
TOUCHES = ("touch", "gat", "gats")

#: What the servers say of themselves that has a meaning in sum.
SUMMED = ("limit_maxbytes", "bytes", "curr_items", "total_items", "evictions", "reclaimed", "expired_unfetched", "evicted_unfetched")

#: What only servers can tell; one slab class of the server number N (from 1) is told as the class N * SLABS more.
OF_SERVERS = (b"items", b"slabs", b"sizes")
SLABS = 100

#: How the lines of several workers become one, where they are not summed up.
MERGED_BY = {
    "pid": max,
    "uptime": max,
    "time": max,
    "version": max,
    "pointer_size": max,
    "max_connections": max,
    "backends": max,
    "backends_ejected": max,
    "backends_behind": max,
}

#: What is no counter among the lines that are summed up.
OF_NOW = (
    "curr_connections",
    "sleeping_connections",
    "bytes_held",
    "threads",
    "backend_links",
    "links_lingering",
    "changes_undecided",
    "fetches",
    "journal_keys",
)


#: Names and values of lines.
Pairs = list[tuple[str, object]]

#: What one process has counted, or several together, as JSON can hold it.
Snapshot = dict[str, Any]

#: Label of a server -> the names and values of its reply to `stats`.
ServerReplies = dict[str, list[tuple[str, str]]]


def general(service: ClientContext) -> Pairs:
    """The lines of a plain `stats`: names and values."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    router = service.router
    primaries = router.backends
    everyone = primaries + router.backups
    asked = [backend.counters.replies_by_command() for backend in primaries]
    bytes_read, bytes_written = service.clients.traffic()
    return [
        ("pid", os.getpid()),
        ("uptime", int(time.monotonic() - service.worker_context.started_at)),
        ("time", int(time.time())),
        ("version", f"{PROTOCOL_VERSION} gmproxy-{__version__}"),
        ("pointer_size", struct.calcsize("P") * 8),
        ("rusage_user", usage.ru_utime),
        ("rusage_system", usage.ru_stime),
        ("max_connections", service.max_clients),
        ("curr_connections", len(service.clients)),
        ("sleeping_connections", service.clients.idle()),
        ("total_connections", service.connections),
        ("rejected_connections", service.rejected),
        ("dropped_connections", service.dropped),
        ("auth_errors", service.auth_errors),
        ("bytes_held", service.held),
        ("bytes_read", bytes_read),
        ("bytes_written", bytes_written),
        ("cmd_get", sum(backend.counters.keys_asked for backend in primaries)),
        ("get_hits", sum(backend.counters.values_found for backend in primaries)),
        ("get_misses", sum(backend.counters.keys_asked - backend.counters.values_found for backend in primaries)),
        ("cmd_set", sum(commands.get(name, 0) for commands in asked for name in STORES)),
        ("cmd_touch", sum(commands.get(name, 0) for commands in asked for name in TOUCHES)),
        ("cmd_flush", service.flushes),
        ("threads", 1),
        ("internal_errors", internal_errors.count()),
        ("backends", len(primaries)),
        ("backends_ejected", sum(backend.health.ejected for backend in everyone)),
        ("backend_requests", sum(backend.counters.replies for backend in everyone)),
        ("backend_failures", sum(backend.counters.failures for backend in everyone)),
        ("backend_links", sum(link is not None for backend in everyone for link in backend.connections)),
        ("links_lingering", sum(len(backend.half_closed) for backend in everyone)),
        ("changes_undecided", router.unready + (router.copies.undecided() if router.copies else 0)),
        ("fetches", sum(len(backend.fetches) for backend in primaries)),
        ("get_errors_as_misses", router.misses_for_errors),
        ("backup_writes_lost", router.copies.lost),
        ("backup_writes_differed", router.copies.differed),
        ("refills", sum(backend.counters.fills for backend in primaries)),
        ("ejections", sum(backend.health.ejections for backend in everyone)),
        ("backends_behind", sum(backend.behind for backend in everyone)),
        ("journal_keys", sum(len(backend.invalidations) for backend in everyone)),
        ("journal_deleted", sum(backend.counters.keys_deleted for backend in everyone)),
        ("journal_flushes", sum(backend.counters.flushes for backend in everyone)),
    ]


def snapshot(service: ClientContext) -> Snapshot:
    """What this process has counted: JSON can hold it, and `merge` can join it with that of others."""
    links = [[backend.label, sum(link is not None for link in backend.connections)] for backend in service.router.backends]
    return {"general": dict(general(service)), "links": links}


def counted(snapshot: Snapshot) -> Snapshot:
    """What stays of it when there is nothing more to be said of its process than what it has counted."""
    idle = [name for name, value in snapshot["general"].items() if name in OF_NOW or (name in MERGED_BY and not isinstance(value, str))]
    return {"general": snapshot["general"] | dict.fromkeys(idle, 0), "links": []}


def merge(snapshots: Sequence[Snapshot], pid: int) -> Snapshot:
    """One of many: the service speaks as the process `pid`. `snapshots` is not empty."""
    first = snapshots[0]
    whole = {name: MERGED_BY.get(name, sum)([each["general"][name] for each in snapshots]) for name in first["general"]}
    links = [[same[0][0], sum(count for _, count in same)] for same in zip(*(each["links"] for each in snapshots if each["links"]))]
    return {"general": whole | {"pid": pid}, "links": links}


def settings(service: ClientContext) -> Pairs:
    return [(name, render(setting, getattr(service.options, name)) or "-") for name, setting in SETTINGS.items()]


#: What `stats` with these arguments asks of all workers.
_QUESTIONS = {(): "stats", (b"proxy",): "stats", (b"reset",): "reset", (b"pools",): "report", (b"backends",): "report"}


def question(words: list[bytes]) -> str | None:
    """The question to, or order for, all workers that `stats` with the arguments `words` is; or None."""
    return _QUESTIONS.get(tuple(words))


def is_about_servers(words: list[bytes]) -> bool:
    return not words or words in [[word] for word in OF_SERVERS]


def answer(
    service: ClientContext, words: list[bytes], as_magent: bool = False, whole: Snapshot | None = None, replies: ServerReplies | None = None
) -> bytes:
    """The reply to `stats` with the arguments `words` (list of bytes). `whole`: the answer of all workers, where there are several;
    `replies`: {label: [(name, value)]}, that of the servers, where they were asked."""
    if not words or words == [b"proxy"]:
        told = whole or snapshot(service)
        if as_magent and not words:
            return _as_magent(told["links"])
        return _lines([*told["general"].items(), *sums(replies or {})])
    if words in ([b"pools"], [b"backends"]):
        report = whole or service.worker_context.report()
        return _lines(_of_pools(report) if words == [b"pools"] else _of_backends(report["pools"][service.options.name or UNNAMED]))
    if words[0] == b"settings":
        return _lines(settings(service))
    if words[0] in OF_SERVERS:
        return _lines(_sizes(replies or {}) if words[0] == b"sizes" else _slabs(replies or {}))
    if words[0] == b"conns":
        return END  # the proxy's clients are nobody's business
    if words[0] == b"reset":
        service.reset_counters()
        return b"RESET\r\n"
    return b"ERROR\r\n"


# -- of the servers


def sums(replies: ServerReplies) -> Pairs:
    """[(name, value)]: what the servers say of themselves, in sum, as far as they do."""
    facts = [dict(pairs) for pairs in replies.values()]
    return [(name, sum(plain_number(one.get(name, "")) or 0 for one in facts)) for name in SUMMED if any(name in one for one in facts)]


def _slabs(replies: ServerReplies) -> Pairs:
    """The lines of `stats items` or `stats slabs`: those about a slab class for each server by itself, the others in sum."""
    lines: Pairs = []
    whole: dict[str, int] = {}
    for number, pairs in enumerate(replies.values(), 1):
        for name, value in pairs:
            prefix, _, rest = name.rpartition(":")
            group, _, slab = prefix.rpartition(":")
            slab_class, count = plain_number(slab), plain_number(value)
            if slab_class is not None:
                lines.append((f"{group}:{number * SLABS + slab_class}:{rest}" if group else f"{number * SLABS + slab_class}:{rest}", value))
            elif count is not None:
                whole[name] = whole.get(name, 0) + count
    return [*lines, *whole.items()]


def _sizes(replies: ServerReplies) -> Pairs:
    """The lines of `stats sizes`: how many items of each size there are, on all servers."""
    counts: dict[int, int] = {}
    words: dict[str, str] = {}
    for name, value in (pair for pairs in replies.values() for pair in pairs):
        size, count = plain_number(name), plain_number(value)
        if size is not None and count is not None:
            counts[size] = counts.get(size, 0) + count
        else:
            words[name] = value
    return [*((str(size), count) for size, count in sorted(counts.items())), *words.items()]


# -- of the report


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
            "state": one["state"],
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
    """`text` as one word of a line."""
    return "_".join(text.split())


# -- lines


def _lines(pairs: Iterable[tuple[str, object]]) -> bytes:
    return b"".join(f"STAT {name} {_number(value)}\r\n".encode() for name, value in pairs) + END


def _number(value: object) -> object:
    return f"{value:.6f}" if isinstance(value, float) else value


def _as_magent(links: list[list[Any]]) -> bytes:
    """magent: one line for each primary, with the number of its open connections."""
    lines = [f"matrix {number} -> {label}, pool size {count}".encode() for number, (label, count) in enumerate(links, 1)]
    return b"\r\n".join([MAGENT_NAME, *lines]) + b"\r\n" + END

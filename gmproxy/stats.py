"""What `stats` and `version` answer: memcached's way, or magent's where an old script expects it."""

import os
import resource
import struct
import time

from gmproxy import __version__
from gmproxy.settings import SETTINGS, render

#: The memcached whose text protocol is spoken. libmemcached drops a server whose version does not begin with digits.
PROTOCOL_VERSION = "1.6.18"

VERSION = f"VERSION {PROTOCOL_VERSION} gmproxy-{__version__}\r\n".encode()

MAGENT_NAME = b"memcached agent v0.6"
MAGENT_VERSION = b"VERSION " + MAGENT_NAME + b"\r\n"

END = b"END\r\n"

#: How the lines of several workers become one, where they are not summed up.
MERGED_BY = {"pid": max, "uptime": max, "time": max, "version": max, "pointer_size": max, "max_connections": max, "backends": max,
             "backends_ejected": max, "backends_behind": max}


def general(service):
    """The lines of a plain `stats`: names and values."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    router = service.router
    primaries = router.backends
    everyone = primaries + router.backups
    return [
        ("pid", os.getpid()),
        ("uptime", int(time.monotonic() - service.share.started_at)),
        ("time", int(time.time())),
        ("version", f"{PROTOCOL_VERSION} gmproxy-{__version__}"),
        ("pointer_size", struct.calcsize("P") * 8),
        ("rusage_user", usage.ru_utime),
        ("rusage_system", usage.ru_stime),
        ("max_connections", service.max_clients),
        ("curr_connections", len(service.sessions)),
        ("total_connections", service.connections),
        ("rejected_connections", service.rejected),
        ("dropped_connections", service.dropped),
        ("bytes_held", service.held),
        ("cmd_get", sum(backend.keys_asked for backend in primaries)),
        ("get_hits", sum(backend.values_found for backend in primaries)),
        ("get_misses", sum(backend.keys_asked - backend.values_found for backend in primaries)),
        ("cmd_flush", service.flushes),
        ("threads", 1),
        ("backends", len(primaries)),
        ("backends_ejected", sum(backend.health.ejected for backend in everyone)),
        ("backend_requests", sum(backend.requests for backend in everyone)),
        ("backend_failures", sum(backend.failures for backend in everyone)),
        ("backend_links", sum(link is not None for backend in everyone for link in backend.links)),
        ("links_lingering", sum(len(backend.lingering) for backend in everyone)),
        ("changes_undecided", router.unready + (router.copies.undecided() if router.copies else 0)),
        ("fetches", sum(len(backend.fetches) for backend in primaries)),
        ("get_errors_as_misses", router.misses_for_errors),
        ("backup_writes_lost", router.copies.lost),
        ("backup_writes_differed", router.copies.differed),
        ("refills", sum(backend.refills for backend in primaries)),
        ("ejections", sum(backend.health.ejections for backend in everyone)),
        ("backends_behind", sum(backend.behind for backend in everyone)),
        ("journal_keys", sum(len(backend.journal) for backend in everyone)),
        ("journal_deleted", sum(backend.keys_deleted for backend in everyone)),
        ("journal_flushes", sum(backend.flushes for backend in everyone)),
    ]


def snapshot(service):
    """What this process has counted: JSON can hold it, and `merge` can join it with that of others."""
    links = [[backend.label, sum(link is not None for link in backend.links)] for backend in service.router.backends]
    return {"general": dict(general(service)), "links": links}


def merge(snapshots, pid):
    """One of many: the service speaks as the process `pid`. `snapshots` is not empty."""
    first = snapshots[0]
    whole = {name: MERGED_BY.get(name, sum)([each["general"][name] for each in snapshots]) for name in first["general"]}
    links = [[same[0][0], sum(count for _, count in same)] for same in zip(*(each["links"] for each in snapshots))]
    return {"general": whole | {"pid": pid}, "links": links}


def settings(service):
    return [(name, render(setting, getattr(service.options, name)) or "-") for name, setting in SETTINGS.items()]


def concerns_all(words):
    """True if `stats` with these arguments is a question to, or an order for, all workers."""
    return words in ([], [b"reset"])


def answer(service, words, as_magent=False, whole=None):
    """The reply to `stats` with the arguments `words` (list of bytes). `whole`: the snapshot of all workers, where there are several."""
    if not words:
        told = whole or snapshot(service)
        return _as_magent(told["links"]) if as_magent else _lines(told["general"].items())
    if words[0] == b"settings":
        return _lines(settings(service))
    if words[0] in (b"items", b"slabs", b"sizes", b"conns"):
        return END  # memcached's own insides: the proxy keeps no item
    if words[0] == b"reset":
        service.reset_counters()
        return b"RESET\r\n"
    return b"ERROR\r\n"


def _lines(pairs):
    return b"".join(f"STAT {name} {_number(value)}\r\n".encode() for name, value in pairs) + END


def _number(value):
    return f"{value:.6f}" if isinstance(value, float) else value


def _as_magent(links):
    """magent: one line for each primary, with the number of its open connections."""
    lines = [f"matrix {number} -> {label}, pool size {count}".encode() for number, (label, count) in enumerate(links, 1)]
    return b"\r\n".join([MAGENT_NAME, *lines]) + b"\r\n" + END

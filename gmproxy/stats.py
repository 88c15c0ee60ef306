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


def general(service):
    """The lines of a plain `stats`: names and values."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    router = service.router
    primaries = router.backends
    everyone = primaries + router.backups
    return [
        ("pid", os.getpid()),
        ("uptime", int(time.monotonic() - service.started_at)),
        ("time", int(time.time())),
        ("version", f"{PROTOCOL_VERSION} gmproxy-{__version__}"),
        ("pointer_size", struct.calcsize("P") * 8),
        ("rusage_user", f"{usage.ru_utime:.6f}"),
        ("rusage_system", f"{usage.ru_stime:.6f}"),
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
        ("backup_writes_lost", router.copies.lost if router.copies else 0),
        ("backup_writes_differed", router.copies.differed if router.copies else 0),
        ("refills", sum(backend.refills for backend in primaries)),
        ("ejections", sum(backend.health.ejections for backend in everyone)),
        ("backends_behind", sum(backend.behind for backend in everyone)),
        ("journal_keys", sum(len(backend.journal) for backend in everyone)),
        ("journal_deleted", sum(backend.keys_deleted for backend in everyone)),
        ("journal_flushes", sum(backend.flushes for backend in everyone)),
    ]


def settings(service):
    return [(name, render(setting, getattr(service.options, name)) or "-") for name, setting in SETTINGS.items()]


def answer(service, words):
    """The reply to `stats` with the arguments `words` (list of bytes)."""
    if not words:
        return _lines(general(service))
    if words[0] == b"settings":
        return _lines(settings(service))
    if words[0] in (b"items", b"slabs", b"sizes", b"conns"):
        return END  # memcached's own insides: the proxy keeps no item
    if words[0] == b"reset":
        service.reset_counters()
        return b"RESET\r\n"
    return b"ERROR\r\n"


def _lines(pairs):
    return b"".join(f"STAT {name} {value}\r\n".encode() for name, value in pairs) + END


def magent_answer(service):
    """magent: one line for each primary, with the number of its open connections."""
    lines = [MAGENT_NAME]
    for number, backend in enumerate(service.router.backends, 1):
        links = sum(link is not None for link in backend.links)
        lines.append(f"matrix {number} -> {backend.label}, pool size {links}".encode())
    return b"\r\n".join(lines) + b"\r\n" + END

"""Resolves host names to addresses, without waiting for a name service that does not reply.

An address (IPv4, IPv6) is never looked up. A name is looked up when a connection is opened, by the system's resolver (getaddrinfo), in a thread of
a small pool of its own. Lookups of the same name at the same time are one, so a name whose lookup hangs occupies one thread. While the name service
does not reply, the last known addresses are used.

A failed lookup is a LocalError: the server is not to blame.
"""

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from gmproxy import internal_errors
from gmproxy.errors import CONNECTING, OVERLOAD, LocalError
from gmproxy.transport.deadline import Deadline

#: Maximum number of lookups at a time, one thread each. Further ones wait; the resolver gives up after about 10 to 30 s.
MAX_LOOKUPS = 16

#: Seconds for which a result is used without a new lookup: connections that are opened together share it.
FRESH_FOR = 1.0

#: Seconds from a failed lookup to the next one.
RETRY_AFTER = 1.0

#: Seconds for which the last known addresses are used while the name service does not reply. After that another host may have them.
LAST_KNOWN_FOR = 3600.0

#: Maximum number of names that are kept. Above it, all that are not being looked up are dropped. A service has few; reloads may change them.
MAX_NAMES = 10_000

#: Errors of the resolver for a name that has no address. Any other one means that the name service did not reply.
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

#: Errors of the resolver for a lack of memory or file descriptors in this process or machine.
_LACKS = {socket.EAI_MEMORY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

#: (address family, address as connect() takes it)
Address = tuple[int, tuple[Any, ...]]

_getaddrinfo = get_original("socket", "getaddrinfo")  # gevent's would use the thread pool of its hub


class _Name:
    """What is known of a host name."""

    __slots__ = ("addresses", "known_at", "failed_at", "error", "lookup", "hangs", "reached")

    def __init__(self) -> None:
        self.addresses: list[Address] = []  # with port 0
        self.known_at = -LAST_KNOWN_FOR  # monotonic seconds
        self.failed_at = -RETRY_AFTER
        self.error: BaseException | None = None
        self.lookup: Event | None = None  # set when the lookup in progress ends; None: none is
        self.hangs = False  # a lookup took longer than its timeout: callers do not wait until one has ended
        self.reached: Address | None = None  # the address of the last successful connection


class Names:
    """The names of one process. `look_up(host)`: as getaddrinfo, called in a thread; `now()`: monotonic seconds."""

    def __init__(self, look_up: Callable[[str], list[Any]] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up or _system_lookup
        self._now = now
        self._names: dict[str, _Name] = {}
        self._threads: ThreadPool | None = None

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """The addresses of `host`, in the order to try them. Greenlet only, unless `host` is an address: blocks until the `deadline`, or for half of
        it if there are last known addresses. Raises LocalError."""
        if address := _literal(host, port):
            return [address]
        name = self._name(host)
        if not self._is_fresh(name) and not self._lookup_failed_lately(name):
            self._wait_for_lookup(host, name, deadline)
        if not self._is_usable(name):
            raise _local_error(name.error)
        return [(family, (address[0], port, *address[2:])) for family, address in _in_order(name)]

    def reached(self, host: str, address: Address) -> None:
        """A connection to `address` was opened: it is tried first the next time. Loop callback or greenlet."""
        name = self._names.get(host)
        if name is not None:
            family, sockaddr = address
            name.reached = family, (sockaddr[0], 0, *sockaddr[2:])

    def _name(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            if len(self._names) >= MAX_NAMES:
                self._names = {other: known for other, known in self._names.items() if known.lookup is not None}
            name = self._names[host] = _Name()
        return name

    def _is_fresh(self, name: _Name) -> bool:
        return self._now() - name.known_at < FRESH_FOR

    def _is_usable(self, name: _Name) -> bool:
        return bool(name.addresses) and self._now() - name.known_at < LAST_KNOWN_FOR

    def _lookup_failed_lately(self, name: _Name) -> bool:
        return self._now() - name.failed_at < RETRY_AFTER

    def _wait_for_lookup(self, host: str, name: _Name, deadline: Deadline) -> None:
        if name.lookup is None:
            name.lookup = Event()
            gevent.spawn(self._run_lookup, host, name, name.lookup)
        if name.hangs:
            return
        try:
            (deadline.share(2) if self._is_usable(name) else deadline).wait_for(name.lookup)
        except TimeoutError:
            name.hangs = True

    def _run_lookup(self, host: str, name: _Name, done: Event) -> None:
        """In a greenlet of its own, which is never killed: a lookup cannot be interrupted."""
        try:
            if self._threads is None:
                self._threads = ThreadPool(MAX_LOOKUPS)
            infos, error = self._threads.apply(_outcome, (self._look_up, host))
        except RuntimeError as lack:  # no thread can be started
            infos, error = [], lack
        except Exception as fault:
            internal_errors.record("resolver.look_up", f"host={host}")
            infos, error = [], fault
        if error is None:
            name.addresses = [(family, address) for family, _, _, _, address in infos]
            name.known_at = self._now()
            name.hangs = False
        else:
            name.failed_at = self._now()
            if _is_no_such_name(error):
                name.addresses = []
                name.hangs = False
        name.error = error
        name.lookup = None
        done.set()


def _system_lookup(host: str) -> list[Any]:
    infos: list[Any] = _getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return infos


def _outcome(look_up: Callable[[str], list[Any]], host: str) -> tuple[list[Any], Exception | None]:
    """(infos, None) or ([], error). Called in a thread: an exception raised there would be printed by gevent."""
    try:
        return look_up(host), None
    except (OSError, UnicodeError, MemoryError) as error:  # UnicodeError: the host name cannot be encoded
        return [], error


def _literal(host: str, port: int) -> Address | None:
    """`host` as an Address, or None if it is a name. Looks nothing up."""
    try:
        family, _, _, _, address = _getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0]
    except (OSError, UnicodeError):
        return None
    return family, address


def _in_order(name: _Name) -> list[Address]:
    """The address that was reached last, then the others in the resolver's order, IPv4 and IPv6 in turns: if one of them does not work, the next
    attempt uses the other (RFC 8305)."""
    first = [address for address in name.addresses if address == name.reached]
    others = [address for address in name.addresses if address != name.reached]
    by_family: dict[int, list[Address]] = {}
    for address in others:
        by_family.setdefault(address[0], []).append(address)
    queues = list(by_family.values())
    turns = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
    return first + turns


def _is_no_such_name(error: Exception) -> bool:
    return isinstance(error, UnicodeError) or (isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME)


def _local_error(error: BaseException | None) -> LocalError:
    if error is None:
        return LocalError(CONNECTING, "name: the name service does not reply")
    detail = getattr(error, "strerror", None) or str(error)
    lacks = isinstance(error, (MemoryError, RuntimeError)) or getattr(error, "errno", None) in _LACKS
    return LocalError(OVERLOAD if lacks else CONNECTING, f"name: {detail}")


#: Those of this process.
names = Names()

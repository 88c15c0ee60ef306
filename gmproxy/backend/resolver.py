"""From a host name to addresses, without waiting for a name service that does not answer.

An address (IPv4, IPv6) is never looked up. A name is looked up when a connection is made, by the system's resolver (getaddrinfo), in a
thread of a small pool that serves nothing else. All who ask for the same name share one lookup, so a name whose lookup hangs occupies
one thread. While the name service does not answer, the last known addresses are used.

Trouble with names is a LocalError: it says nothing about the server.
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

#: Lookups under way at once, a thread each. Further ones wait until one of these ends; the resolver gives up after some 10 to 30 s.
MAX_LOOKUPS = 16

#: Seconds for which an answer is used without a new lookup: several connections that are made at once share one.
FRESH_FOR = 1.0

#: Seconds after a failed lookup before the next one.
RETRY_AFTER = 1.0

#: Seconds for which the last known addresses are used while the name service does not answer. Later they may be somebody else's.
LAST_KNOWN_FOR = 3600.0

#: Names that are remembered; beyond that those that nobody looks up at the moment are forgotten. A service uses a few; reloads may change them.
MAX_NAMES = 10_000

#: Answers of the resolver that mean: this name has no address. Any other failure means that the name service did not answer.
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

#: Failures of the resolver because this process or the machine lacks something.
_LACKS = {socket.EAI_MEMORY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}

#: An address family and what connect() takes.
Address = tuple[int, tuple[Any, ...]]

_getaddrinfo = get_original("socket", "getaddrinfo")  # gevent's would use the threads of its hub, which everybody shares


class _Name:
    """What is known of a host name."""

    __slots__ = ("addresses", "known_at", "failed_at", "error", "lookup", "hangs", "reached")

    def __init__(self) -> None:
        self.addresses: list[Address] = []  # with port 0
        self.known_at = -LAST_KNOWN_FOR  # monotonic seconds
        self.failed_at = -RETRY_AFTER
        self.error: BaseException | None = None
        self.lookup: Event | None = None  # set when the lookup that is under way ends
        self.hangs = False  # somebody has waited in vain: until there is an answer nobody waits
        self.reached: Address | None = None  # the address that was connected to last


class Names:
    """The names of one process. `look_up(host)` gives what getaddrinfo does; it is called in a thread, and `now()` seconds."""

    def __init__(self, look_up: Callable[[str], list[Any]] | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._look_up = look_up or _ask_system
        self._now = now
        self._names: dict[str, _Name] = {}
        self._threads: ThreadPool | None = None

    def addresses(self, host: str, port: int, deadline: Deadline) -> list[Address]:
        """Where to connect to, the most promising first. Waits at most until the `deadline`, or half of it if the last known addresses
        would do; not at all for an address. For greenlets; for an address from the loop, too. Raises LocalError."""
        if address := _literal(host, port):
            return [address]
        name = self._name(host)
        if not self._is_fresh(name) and not self._failed_lately(name):
            self._wait_for_lookup(host, name, deadline)
        if not self._is_usable(name):
            raise _trouble(name.error)
        return [(family, (address[0], port, *address[2:])) for family, address in _in_order(name)]

    def reached(self, host: str, address: Address) -> None:
        """`address` is alive: it is tried first the next time."""
        name = self._names.get(host)
        if name is not None:
            family, where = address
            name.reached = family, (where[0], 0, *where[2:])

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

    def _failed_lately(self, name: _Name) -> bool:
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
        """In a greenlet of its own, which nobody ends: a lookup cannot be interrupted."""
        try:
            if self._threads is None:
                self._threads = ThreadPool(MAX_LOOKUPS)
            found, error = self._threads.apply(_outcome, (self._look_up, host))
        except RuntimeError as lack:  # no thread can be started
            found, error = [], lack
        except Exception as fault:
            internal_errors.record("resolver.look_up", f"host={host}")
            found, error = [], fault
        if error is None:
            name.addresses = [(family, address) for family, _, _, _, address in found]
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


def _ask_system(host: str) -> list[Any]:
    return _getaddrinfo(host, None, type=socket.SOCK_STREAM)


def _outcome(look_up: Callable[[str], list[Any]], host: str) -> tuple[list[Any], Exception | None]:
    """In a thread: gevent prints what is raised there."""
    try:
        return look_up(host), None
    except (OSError, UnicodeError, MemoryError) as error:  # UnicodeError: the host name cannot be encoded
        return [], error


def _literal(host: str, port: int) -> Address | None:
    """The address that `host` is, or None for a name. This asks nobody."""
    try:
        family, _, _, _, address = _getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0]
    except (OSError, UnicodeError):
        return None
    return family, address


def _in_order(name: _Name) -> list[Address]:
    """The one that was reached last, then the others as the resolver gave them, but the two families in turns: where one of them is
    broken, the next attempt is with the other (RFC 8305)."""
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


def _trouble(error: BaseException | None) -> LocalError:
    if error is None:
        return LocalError(CONNECTING, "name: no answer from the name service")
    detail = getattr(error, "strerror", None) or str(error)
    lacks = isinstance(error, (MemoryError, RuntimeError)) or getattr(error, "errno", None) in _LACKS
    return LocalError(OVERLOAD if lacks else CONNECTING, f"name: {detail}")


#: Those of this process.
names = Names()

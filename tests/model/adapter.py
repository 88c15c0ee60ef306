"""gmproxy for the explorer: a real pool, with real sessions, router, backends, connections, health checks and recoveries, over model servers.

Three parts of it are replaced, and no others:

    gevent's loop    by ModelLoop, which runs callbacks when the world decides; a greenlet runs until it waits, and continues when the world decides
    connect          to a server: it returns one end of a socket pair; the other end is a Link of a MemcachedModel
    the exchanges    of health checks and recoveries with a server: the model executes their requests when the world decides

Only this file depends on the internals of gmproxy.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

from gmproxy import internal_errors
from gmproxy.backend import backend as backend_module
from gmproxy.backend import connect as connect_module
from gmproxy.backend import control_connection
from gmproxy.backend import health_check as health_check_module
from gmproxy.backend import missed_writes as missed_writes_module
from gmproxy.backend import recovery as recovery_module
from gmproxy.backend.backend import Backend
from gmproxy.backend.health_check import UPTIME_GRAIN
from gmproxy.backend.invalidations import PendingInvalidations
from gmproxy.backend.recovery import Recovery
from gmproxy.client.client_input import NEW
from gmproxy.client.poller import poller_of_process
from gmproxy.client.session import Session
from gmproxy.config import configuration
from gmproxy.errors import TIMEOUT
from gmproxy.placement.server_spec import Server
from gmproxy.pool import Pool
from gmproxy.process.worker_context import WorkerContext
from gmproxy.protocol import cas_numbers, replica_commands
from gmproxy.routing import router as router_module
from model.clients import KEY, OTHER
from model.model_loop import ModelLoop, Task
from model.servers import Link, MemcachedModel, split_requests

#: Seconds after which every periodic action of a health check is due, but a server that has just started is still warming.
LATER = 60.0

#: Uptime of a server that is not warming, seconds.
LONG_AGO = 1_000_000

#: --server-failure-limit. No path has this number of failures in a row: a server is only ejected if the world decides.
FAILURE_LIMIT = 1000

#: The modules that read a clock for requests, health checks and recoveries.
_WITH_CLOCKS = (backend_module, health_check_module, missed_writes_module, recovery_module)

#: The only worker.
_WORKER = WorkerContext()


@cache
def config_of(arguments: tuple[str, ...], primaries: str, backups: str) -> configuration.Config:
    """The configuration of a command line with a server for each letter of `primaries` and `backups`."""
    servers = [("-s", name) for name in primaries] + [("-b", name) for name in backups]
    addresses = [word for number, (option, _) in enumerate(servers, 1) for word in (option, f"127.0.0.1:{number}")]
    (config,), _ = configuration.parse([*arguments, *addresses, "--preconnect", "--server-failure-limit", str(FAILURE_LIMIT)], {})
    return config


class Proxy:
    """A pool over `models`, in the order of the servers of `config`.

    now       the time of all clocks, seconds
    backends  {name of a model: its Backend}
    asked     {name of a model: the request of a health check or a recovery that waits for its reply}
    """

    def __init__(self, config: configuration.Config, models: list[MemcachedModel]) -> None:
        self.now = 0.0
        self._models = dict(zip([server.label for server in config.server + config.backup], models))
        self.asked: dict[str, bytes] = {}
        self._loop = ModelLoop()
        self._hub = getcurrent()
        self._asking: dict[str, greenlet] = {}
        self._sleeping: list[greenlet] = []
        self._ends: list[socket.socket] = []
        self._errors = internal_errors.count()
        with self.running():
            self._pool = Pool(config, _WORKER)
        self.backends: dict[str, Backend] = {self._models[backend.label].name: backend for backend in self._pool.backends}
        self._probed = dict.fromkeys(self.backends, 0)  # {name of a model: its number of ejections at its last probe}

    @contextmanager
    def running(self) -> Iterator[None]:
        """gmproxy must run inside of this context: it replaces the three parts."""
        poller_of_process()  # the poller of the process must be made with the real loop
        replaced: list[tuple[Any, str, Any]] = [
            (gevent, "get_hub", lambda: self._hub),
            (gevent, "spawn", self._spawn),
            (gevent, "sleep", self._sleep),
            (connect_module, "connect", self._connect),
            (backend_module, "introduce_proxy", lambda sock, options: False),
            (health_check_module, "connect", lambda server, *settings: _Control(self, server.label)),
            *((module, "monotonic", lambda: self.now) for module in _WITH_CLOCKS),
        ]
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
        for owner, name, substitute in replaced:
            setattr(owner, name, substitute)
        self._hub.loop = self._loop
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            del self._hub.loop
            for owner, name, original in originals:
                setattr(owner, name, original)

    def close(self) -> None:
        for backend in self.backends.values():
            backend.close()
        for model in self._models.values():
            while model.links:
                model.links[0].close()
        for end in self._ends:
            end.close()

    # -- replacements of gevent and of connect

    def _spawn(self, call: Callable[..., Any], *arguments: Any) -> Task:
        task = Task(call, self._hub)
        self._loop.run_callback(task.switch, *arguments)
        return task

    def _sleep(self, seconds: float = 0.0) -> None:
        """Replaces gevent.sleep. Only a recovery calls it, to wait until its server has closed the connections that were given up."""
        self._sleeping.append(getcurrent())
        self._hub.switch()

    def _connect(self, server: Server, *settings: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._models[server.label].accept(theirs, ours.fileno())
        return ours

    # -- events

    def settle(self, askers: frozenset[int]) -> bool:
        """Run all callbacks of gmproxy until it waits for the next event. Returns True if it has sent requests to servers; they belong to `askers`,
        numbers of clients."""
        sent = False
        while True:
            self._loop.run()
            for model in self._models.values():
                for link in model.links[:]:
                    sent = link.receive(askers) or sent
                    if link.given_up and not link.requests:
                        self.close_link(link)
            if not self._check_health():
                return sent

    def _check_health(self) -> bool:
        """Start the health checks that are due. Returns False if none is due."""
        began = False
        now = self.now + LATER
        for backend in self.backends.values():
            if backend.behind or backend.health.probe_is_due(now) or backend.ask_backup_on_miss:
                checker = backend.health_checker
                was_idle = checker._at_work is None
                checker.tick(now)
                began = began or (was_idle and checker._at_work is not None)
        return began

    def answer_question(self, name: str) -> None:
        """The model `name` executes the request of a health check or a recovery, and the reply arrives."""
        del self.asked[name]
        self._asking.pop(name).switch()

    def ask(self, name: str, question: bytes) -> None:
        """Greenlet only: wait until the world has the model `name` execute `question`."""
        self.asked[name] = question
        self._asking[name] = getcurrent()
        self._hub.switch()

    def is_new_probe(self, name: str) -> bool:
        """True if this is the first probe of the server `name` since its ejection. The order of events matters for no other probe, so other probes
        are not events."""
        is_new = self.backends[name].health.ejected and self._probed[name] < self.backends[name].health.ejections
        self._probed[name] = self.backends[name].health.ejections
        return is_new

    def model(self, label: str) -> MemcachedModel:
        return self._models[label]

    def reply(self, link: Link) -> None:
        """The next reply on this connection arrives."""
        link.reply()
        self._loop.is_readable(link.peer_fd)

    def close_link(self, link: Link) -> None:
        """The server closes this connection."""
        link.close()
        self._loop.is_readable(link.peer_fd)
        for sleeping in self._sleeping[:]:
            self._sleeping.remove(sleeping)
            sleeping.switch()

    def time_out(self, name: str) -> None:
        """The requests to the server `name` reach their timeout."""
        for connection in self.backends[name].connections:
            if connection is not None:
                connection.fail(TIMEOUT)

    def fail_too_often(self, name: str) -> None:
        """The same, and the server is ejected."""
        self.time_out(name)
        backend = self.backends[name]
        if backend.health.failed(self.now, FAILURE_LIMIT):
            backend.on_ejected(TIMEOUT)

    def eject(self, name: str) -> None:
        """An operator ejects the server `name`."""
        self.backends[name].eject()

    def restore(self, name: str) -> None:
        """An operator restores the server `name`: it is used again after a successful probe."""
        self.backends[name].health.release(self.now)

    # -- clients

    def accept(self) -> "ClientEnd":
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._ends += [ours, theirs]
        session = Session(self._pool.context, lambda fd, session: None, lambda fd: None, lambda session: None)
        session.begin(theirs.fileno(), 0, NEW, True, False)
        return ClientEnd(ours, theirs.fileno(), session, self._loop)

    def primary_of(self, key: bytes) -> str:
        """The name of the server that has `key`."""
        return self._models[self._pool.router.primary_of(key).label].name

    def shared_state(self) -> tuple[Any, ...]:
        """The state that requests of several clients have in common. Two equal results mean that it has not changed."""
        router = self._pool.router
        servers = [
            (
                tuple(key in backend.invalidations for key in (KEY, OTHER)),
                frozenset(backend.stand_in_keys),
                frozenset(backend.fetches),
                backend.ask_backup_on_miss,
                backend.health.ejected,
            )
            for backend in self.backends.values()
        ]
        return len(router.held), len(router.undecided), *servers

    # -- the state at the end

    def held(self) -> list[str]:
        """What gmproxy still holds when no request is in progress, as text; must be empty."""
        router = self._pool.router
        found = [f"{len(router.held)} requests wait for their key to be filled"] if router.held else []
        if router.undecided:
            found.append("a conditional write is undecided")
        for name, backend in self.backends.items():
            if backend.is_busy():
                found.append(f"requests wait for {name}")
            if backend.fetches:
                found.append(f"keys are being fetched for {name}")
            if backend.behind or backend.invalidations:
                found.append(f"keys are still to be deleted on {name}")
            if backend.half_closed:
                found.append(f"connections to {name} were given up and did not end")
            if backend.health.ejected:
                found.append(f"{name} is ejected")
        if internal_errors.count() > self._errors:
            found.append("internal errors")
        return found


class ClientEnd:
    """A client's end of its connection."""

    def __init__(self, sock: socket.socket, peer_fd: int, session: Session, loop: ModelLoop) -> None:
        self._sock = sock
        self._peer_fd = peer_fd
        self._session = session
        self._loop = loop

    def send(self, data: bytes) -> None:
        self._sock.send(data)
        if not self._loop.is_readable(self._peer_fd):
            self._session.on_readable(False) if self._session.bytes_read else self._session.run_in_loop()

    def receive(self) -> bytes:
        """The bytes that have arrived."""
        try:
            return self._sock.recv(65536)
        except BlockingIOError:
            return b""


class _Control(control_connection._TextConnection):
    """A connection of a health check or a recovery to the model at `label`."""

    def __init__(self, proxy: Proxy, label: str) -> None:
        self._proxy = proxy
        self._model = proxy.model(label)

    def __exit__(self, *failure: object) -> None:
        pass

    def identify(self) -> control_connection.Identity:
        """Returns at once, without an event, because it changes nothing. The uptime is exact, so UPTIME_GRAIN, by which real ones may be too small,
        is subtracted."""
        started_at = self._model.started_at
        return control_connection.Identity(1, LONG_AGO if started_at is None else self._proxy.now - started_at - UPTIME_GRAIN, "1.6.45")

    def _exchange(self, name: str, question: bytes, is_whole: Callable[[bytes], object], rest: float = 0.0) -> bytes:
        if name != "version" or self._proxy.is_new_probe(self._model.name):
            self._proxy.ask(self._model.name, question)
        return b"".join(map(self._model.execute, split_requests(bytearray(question))))


# -- faults of gmproxy: one function of it is replaced


@contextmanager
def _replaced(owner: Any, name: str, substitute: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, substitute)
    try:
        yield
    finally:
        setattr(owner, name, original)


#: For the test that the model finds faults. Each of these functions can be replaced in both builds.
FAULTS: dict[str, Callable[[], Any]] = {
    "nothing is noted that a server missed": lambda: _replaced(PendingInvalidations, "note", lambda self, key, now: False),
    "connections that were given up are not waited for": lambda: _replaced(Recovery, "_wait_for_half_closed", lambda self, server: None),
    "a backup that answers otherwise keeps its value": lambda: _replaced(replica_commands, "replies_differ", lambda request, copy: False),
    "what is being fetched is not known to become old": lambda: _replaced(missed_writes_module, "changes_value", lambda request: False),
    "changes under way to a stand-in are not followed": lambda: _replaced(router_module, "watch_late_writes", lambda *arguments: None),
    "cas numbers of the primary are good for the backup": lambda: _replaced(cas_numbers, "set_of", lambda request: None),
}

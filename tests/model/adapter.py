"""gmproxy for the explorer: a real pool, with real sessions, router, backends, connections, health checks and recoveries, over model servers.

Three things of it are replaced, and no others:

    gevent's loop    by ModelLoop, which calls back when the world says so; greenlets run until they wait, and go on when the world says so
    connecting       to a server: the other end of a socket pair is a Link of a MemcachedModel. The loop knows when something has arrived
    the questions    of health checks and recoveries: executed by the model when the world says so

All else that the tests of this directory know of gmproxy is in this file.
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

#: Seconds: whatever a health check does in time is due so much later, and no server has become warm by then.
LATER = 60.0

#: Seconds: the uptime of a server that is warm.
LONG_AGO = 1_000_000

#: Failures in a row for which a server is ejected here. It has fewer, unless the world says so.
FAILURE_LIMIT = 1000

#: All that reads a clock on the way of a request, or in health checks and recoveries.
_WITH_CLOCKS = (backend_module, health_check_module, missed_writes_module, recovery_module)

#: There is one worker.
_WORKER = WorkerContext()


@cache
def config_of(arguments: tuple[str, ...], primaries: str, backups: str) -> configuration.Config:
    """That of a command line with a server for each letter of `primaries` and `backups`."""
    servers = [("-s", name) for name in primaries] + [("-b", name) for name in backups]
    addresses = [word for number, (option, _) in enumerate(servers, 1) for word in (option, f"127.0.0.1:{number}")]
    (config,), _ = configuration.parse([*arguments, *addresses, "--preconnect", "--server-failure-limit", str(FAILURE_LIMIT)], {})
    return config


class Proxy:
    """A pool that serves `models`, in the order of the servers of `config`.

    now       seconds: the time by all clocks
    backends  {name of a model: its Backend}
    asked     {name of a model: what a health check or a recovery is asking it}
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
        self._probed = dict.fromkeys(self.backends, 0)  # ejections after which it was probed

    @contextmanager
    def running(self) -> Iterator[None]:
        """gmproxy may run within this."""
        poller_of_process()  # that of the process belongs to its real loop
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

    # -- in the place of gevent, and of connecting

    def _spawn(self, call: Callable[..., Any], *arguments: Any) -> Task:
        task = Task(call, self._hub)
        self._loop.run_callback(task.switch, *arguments)
        return task

    def _sleep(self, seconds: float = 0.0) -> None:
        """Only a recovery does, until its server has ended the connections that were given up."""
        self._sleeping.append(getcurrent())
        self._hub.switch()

    def _connect(self, server: Server, *settings: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._models[server.label].accept(theirs, ours.fileno())
        return ours

    # -- what happens

    def settle(self, askers: frozenset[int]) -> bool:
        """Do all that gmproxy does for `askers`, numbers of clients, before anything else happens. False if it sends no requests."""
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
        """Let each health check begin what is due. False if nothing is."""
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
        """The model `name` executes what a health check or a recovery asks, and its answer arrives."""
        del self.asked[name]
        self._asking.pop(name).switch()

    def ask(self, name: str, question: bytes) -> None:
        """Called in a greenlet: wait until this is answered."""
        self.asked[name] = question
        self._asking[name] = getcurrent()
        self._hub.switch()

    def is_new_probe(self, name: str) -> bool:
        """True if the server `name` is ejected and did not answer since. Whenever else it is asked for a sign of life, it makes no difference
        when that comes."""
        is_new = self.backends[name].health.ejected and self._probed[name] < self.backends[name].health.ejections
        self._probed[name] = self.backends[name].health.ejections
        return is_new

    def model(self, label: str) -> MemcachedModel:
        return self._models[label]

    def reply(self, link: Link) -> None:
        """The next reply on this link arrives."""
        link.reply()
        self._loop.is_readable(link.peer_fd)

    def close_link(self, link: Link) -> None:
        """The server closes this link."""
        link.close()
        self._loop.is_readable(link.peer_fd)
        for sleeping in self._sleeping[:]:
            self._sleeping.remove(sleeping)
            sleeping.switch()

    def time_out(self, name: str) -> None:
        """The server `name` has not replied in time."""
        for connection in self.backends[name].connections:
            if connection is not None:
                connection.fail(TIMEOUT)

    def fail_too_often(self, name: str) -> None:
        """The same, and it is ejected for that."""
        self.time_out(name)
        backend = self.backends[name]
        if backend.health.failed(self.now, FAILURE_LIMIT):
            backend.on_ejected(TIMEOUT)

    def eject(self, name: str) -> None:
        """An operator ejects the server `name`."""
        self.backends[name].eject()

    def restore(self, name: str) -> None:
        """An operator wants it to be used again, if it answers."""
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
        """What requests of several clients may change, and go by: it is equal as long as nothing of that has changed."""
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

    # -- what is left at the end

    def held(self) -> list[str]:
        """What gmproxy holds although nothing is going on any more."""
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
        """What has arrived."""
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
        """Changes nothing, so it need not be waited for. The uptime is exact: a real one is rounded by as much as is taken off here."""
        started_at = self._model.started_at
        return control_connection.Identity(1, LONG_AGO if started_at is None else self._proxy.now - started_at - UPTIME_GRAIN, "1.6.45")

    def _exchange(self, name: str, question: bytes, is_whole: Callable[[bytes], object], rest: float = 0.0) -> bytes:
        if name != "version" or self._proxy.is_new_probe(self._model.name):
            self._proxy.ask(self._model.name, question)
        return b"".join(map(self._model.execute, split_requests(bytearray(question))))


# -- gmproxy with one line of it taken away


@contextmanager
def _replaced(owner: Any, name: str, substitute: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, substitute)
    try:
        yield
    finally:
        setattr(owner, name, original)


#: For the test that faults are found. All of these are replaced in either build.
FAULTS: dict[str, Callable[[], Any]] = {
    "nothing is noted that a server missed": lambda: _replaced(PendingInvalidations, "note", lambda self, key, now: False),
    "connections that were given up are not waited for": lambda: _replaced(Recovery, "_wait_for_half_closed", lambda self, server: None),
    "a backup that answers otherwise keeps its value": lambda: _replaced(replica_commands, "replies_differ", lambda request, copy: False),
    "what is being fetched is not known to become old": lambda: _replaced(missed_writes_module, "changes_value", lambda request: False),
    "changes under way to a stand-in are not followed": lambda: _replaced(router_module, "watch_late_writes", lambda *arguments: None),
    "cas numbers of the primary are good for the backup": lambda: _replaced(cas_numbers, "line_for", lambda request, of_set: request.line),
}

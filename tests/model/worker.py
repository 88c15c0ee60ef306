"""One worker of gmproxy for the explorer: a real pool, with real sessions, router, backends, connections, health checks and recoveries."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from gmproxy.backend import control_connection
from gmproxy.backend.backend import Backend
from gmproxy.backend.health_check import UPTIME_GRAIN
from gmproxy.client.client_input import NEW
from gmproxy.client.session import Session
from gmproxy.config.configuration import Config
from gmproxy.errors import TIMEOUT
from gmproxy.pool import Pool
from gmproxy.process.orphans import Orphans
from gmproxy.process.worker_context import WorkerContext
from gmproxy.routing.held_writes import HeldWrites
from gmproxy.shared.invalidation_marks import server_name
from model.clients import KEY, OTHER
from model.model_loop import ModelLoop, Task
from model.servers import Link, MemcachedModel, split_requests
from model.tracked import untracked

if TYPE_CHECKING:
    from model.adapter import Proxy

#: Seconds after which every periodic action of a health check is due, but a server that has just started is still warming.
LATER = 60.0

#: Uptime of a server that is not warming, seconds.
LONG_AGO = 1_000_000

#: --server-failure-limit. No path has this number of failures in a row: a server is only ejected if the world decides.
FAILURE_LIMIT = 1000


class Worker:
    """A pool over the models of `proxy`.

    name      w1, w2 ...; "" if it is the only one
    loop      its event loop
    backends  {name of a model: its Backend}
    asked     {name of a model: the request of a health check or a recovery that waits for its reply}
    tasks     all its greenlets, except those of sessions
    is_dead   True after its process has died
    """

    def __init__(self, proxy: "Proxy", name: str, config: Config, context: WorkerContext) -> None:
        self.name = name
        self.loop = ModelLoop()
        self.asked: dict[str, bytes] = {}
        self.tasks: list[Task] = []
        self.is_dead = False
        self._proxy = proxy
        self._hub = getcurrent()
        self._asking: dict[str, greenlet] = {}
        self._sleeping: dict[greenlet, float] = {}  # {a greenlet that sleeps: seconds}
        self._ends: list[socket.socket] = []
        self._held_writes: HeldWrites | None = None
        with proxy.acting(self):
            self._pool = Pool(config, context)
        self._orphans = Orphans(context.shared)
        memory = context.shared.memory
        self._ejections = [
            (backend, memory.epochs, memory.row_of(server_name(config.name, backend.role, backend.label)))
            for backend in self._pool.backends
            if self._pool.has_roles()
        ]
        self.backends: dict[str, Backend] = {proxy.models[backend.label].name: backend for backend in self._pool.backends}
        self._probed = dict.fromkeys(self.backends, 0)  # {name of a model: its number of ejections at its last probe}

    def close(self) -> None:
        for task in self.tasks:
            task.throw()  # now, and not when the garbage collector finds it: then another world is running
        for backend in self.backends.values():
            backend.close()
        for end in self._ends:
            end.close()

    # -- events: within Proxy.acting

    def settle(self, askers: frozenset[int]) -> bool:
        """Run all callbacks until the worker waits for the next event. Returns True if it has sent requests to servers; they belong to `askers`,
        numbers of clients."""
        sent = False
        while True:
            self.loop.run()
            for link in self.links():
                sent = link.receive(askers) or sent
                if link.given_up and not link.requests:
                    self.close_link(link)
            if not self._check_health():
                return sent

    def _check_health(self) -> bool:
        """Start the health checks that are due. Returns False if none is due."""
        began = False
        now = self._proxy.now + LATER
        for backend in self.backends.values():
            if backend.behind or backend.health.probe_is_due(now) or backend.ask_backup_on_miss:
                checker = backend.health_checker
                was_idle = checker._at_work is None
                checker.tick(now)
                began = began or (was_idle and checker._at_work is not None)
        return began

    def die(self, sent: list[int]) -> None:
        """Its process dies. `sent`: the number of requests that reach the server, for each connection with requests."""
        self.is_dead = True
        self.asked.clear()
        numbers = iter(sent)
        for link in self.links():
            link.give_up(next(numbers) if link.requests else 0)

    def links(self) -> list[Link]:
        """Its connections to servers."""
        return [link for model in self._proxy.models.values() for link in model.links if link.owner == self.name]

    def sleep(self, seconds: float = 0.0) -> None:
        """Replaces gevent.sleep. Only a recovery calls it, to wait until its server has closed the connections that were given up, or for a timeout,
        in which the server reads what processes that have ended have sent."""
        self._sleeping[getcurrent()] = seconds
        self._hub.switch()

    def _wake(self, is_over: Callable[[float], bool]) -> None:
        for sleeping, seconds in list(self._sleeping.items()):
            if is_over(seconds):
                del self._sleeping[sleeping]
                sleeping.switch()

    def may_continue(self) -> bool:
        """True if a recovery waits for a timeout, and it may be over: all servers have read what processes that have ended have sent."""
        return any(map(self._is_long, self._sleeping.values())) and not any(
            link.is_orphaned for model in self._proxy.models.values() for link in model.links
        )

    def end_pauses(self) -> None:
        """The timeouts are over."""
        self._wake(self._is_long)

    def _is_long(self, seconds: float) -> bool:
        return seconds >= self._pool.options.timeout

    # -- what a tick does because of other workers

    def must_follow(self) -> bool:
        """True if another worker has ejected or restored a server, and this worker has not followed."""
        return any(backend.health.ejected != (untracked(epochs)[row] & 1) for backend, epochs, row in self._ejections)

    def make_held_writes(self, *arguments: Any) -> HeldWrites:
        """Replaces HeldWrites: keeps a reference."""
        self._held_writes = HeldWrites(*arguments)
        return self._held_writes

    def must_release(self) -> bool:
        """True if the fill of another worker has ended for which a write waits."""
        return any(not waiting.must_wait() for waiting in self._held_writes._waiting.values())

    def is_waiting(self) -> bool:
        """True if a write waits for the fill of another worker."""
        return bool(self._held_writes._waiting)

    def tick(self, after: float = 0.0) -> None:
        """`after`: seconds that a write has waited."""
        router = self._pool.router
        router.follow_ejections()
        for seconds in (0.0, after):
            router.release_held_writes(self._proxy.now + seconds)

    def wait_too_long(self) -> None:
        """The timeout is over for which a write waits."""
        self.tick(self._pool.options.timeout)

    def adopt(self) -> None:
        """Take over what workers that have died have left."""
        self._orphans.adopt_all([self._pool])

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

    def reply(self, link: Link) -> None:
        """The next reply on this connection arrives."""
        link.reply()
        self.loop.is_readable(link.peer_fd)

    def close_link(self, link: Link) -> None:
        """The server closes this connection."""
        link.close()
        self.loop.is_readable(link.peer_fd)
        self._wake(lambda seconds: not self._is_long(seconds))

    def time_out(self, name: str) -> None:
        """The requests to the server `name` reach their timeout."""
        for connection in self.backends[name].connections:
            if connection is not None:
                connection.fail(TIMEOUT)

    def fail_too_often(self, name: str) -> None:
        """The same, and the server is ejected."""
        self.time_out(name)
        backend = self.backends[name]
        if backend.health.failed(self._proxy.now, FAILURE_LIMIT):
            backend.on_ejected(TIMEOUT)

    def eject(self, name: str) -> None:
        """An operator ejects the server `name`."""
        self.backends[name].eject()

    def restore(self, name: str) -> None:
        """An operator restores the server `name`: it is used again after a successful probe."""
        self.backends[name].health.release(self._proxy.now)

    # -- clients

    def accept(self) -> "ClientEnd":
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._ends += [ours, theirs]
        with self._proxy.acting(self):
            session = Session(self._pool.context, lambda fd, session: None, lambda fd: None, lambda session: None)
            session.begin(theirs.fileno(), 0, NEW, True, False)
        return ClientEnd(ours, theirs.fileno(), session, self.loop)

    def primary_of(self, key: bytes) -> str:
        """The name of the server that has `key`."""
        return self._proxy.models[self._pool.router.primary_of(key).label].name

    def state(self) -> tuple[Any, ...]:
        """The state that requests of several clients have in common. Two equal results mean that it has not changed."""
        router = self._pool.router
        servers = [
            (
                backend.behind and tuple(key in backend.invalidations for key in (KEY, OTHER)),
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
        """What it still holds when no request is in progress, as text; must be empty."""
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
        return [f"{self.name}: {each}" if self.name else each for each in found]


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


class Control(control_connection._TextConnection):
    """A connection of a health check or a recovery of `worker` to `model`."""

    def __init__(self, worker: Worker, model: MemcachedModel, now: Callable[[], float]) -> None:
        self._worker = worker
        self._model = model
        self._now = now

    def __exit__(self, *failure: object) -> None:
        pass

    def identify(self) -> control_connection.Identity:
        """Returns at once, without an event, because it changes nothing. The uptime is exact, so UPTIME_GRAIN, by which real ones may be too small,
        is subtracted."""
        started_at = self._model.started_at
        return control_connection.Identity(1, LONG_AGO if started_at is None else self._now() - started_at - UPTIME_GRAIN, "1.6.45")

    def _exchange(self, name: str, question: bytes, is_whole: Callable[[bytes], object], rest: float = 0.0) -> bytes:
        if name != "version" or self._worker.is_new_probe(self._model.name):
            self._worker.ask(self._model.name, question)
        return b"".join(map(self._model.execute, split_requests(bytearray(question))))

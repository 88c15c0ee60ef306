"""gmproxy for the explorer: the workers of one service, or of two services, over the same model servers.

Three parts of it are replaced, and no others:

    gevent's loop    by a ModelLoop for each worker, which runs callbacks when the world decides; a greenlet runs until it waits, and continues when
                     the world decides
    connect          to a server: it returns one end of a socket pair; the other end is a Link of a MemcachedModel
    the exchanges    of health checks and recoveries with a server: the model executes their requests when the world decides

Only this file, worker.py, shared_state.py and faults.py depend on the internals of gmproxy.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gevent
from greenlet import getcurrent

from gmproxy import internal_errors
from gmproxy.backend import backend as backend_module
from gmproxy.backend import connect as connect_module
from gmproxy.backend import health_check as health_check_module
from gmproxy.backend import missed_writes as missed_writes_module
from gmproxy.backend import recovery as recovery_module
from gmproxy.client.poller import poller_of_process
from gmproxy.config import configuration
from gmproxy.placement.server_spec import Server
from gmproxy.routing import fill_rules as fill_rules_module
from gmproxy.routing import lasting as lasting_module
from model.model_loop import Task
from model.servers import MemcachedModel
from model.shared_state import REPLACED, SharedState
from model.worker import FAILURE_LIMIT, Control, Worker

#: The modules that read a clock for requests, health checks and recoveries.
_WITH_CLOCKS = (backend_module, health_check_module, missed_writes_module, recovery_module, fill_rules_module)


@cache
def config_of(arguments: tuple[str, ...], primaries: str, backups: str, has_replicas: bool = False) -> configuration.Config:
    """The configuration of a command line with a server for each letter of `primaries` and `backups`."""
    servers = [("-s", name) for name in primaries] + [("--replica" if has_replicas else "-b", name) for name in backups]
    addresses = [word for number, (option, _) in enumerate(servers, 1) for word in (option, f"127.0.0.1:{number}")]
    (config,), _ = configuration.parse([*arguments, *addresses, "--preconnect", "--server-failure-limit", str(FAILURE_LIMIT)], {})
    return config


class Proxy:
    """The workers of `proxies` services over `models`, in the order of the servers of `config`. The workers of one service share memory; two
    services share nothing.

    now       the time of all clocks, seconds
    models    {label of a server: its MemcachedModel}
    workers   of the first service, then of the second one
    """

    def __init__(self, config: configuration.Config, models: list[MemcachedModel], workers: int = 1, proxies: int = 1) -> None:
        self.now = 0.0
        replicas = [server for replica in config.replicas for server in replica.server]
        self.models = dict(zip([server.label for server in config.server + config.backup + replicas], models))
        self.workers: list[Worker] = []
        self._hub = getcurrent()
        self._acting: Worker | None = None
        self._errors = internal_errors.count()
        with self.running():
            self._shared = [SharedState(number, workers) for number in range(proxies)]
            contexts = [context for shared in self._shared for context in shared.contexts]
            names = [f"w{number}" for number in range(1, len(contexts) + 1)] if len(contexts) > 1 else [""]
            self.workers = [Worker(self, name, config, context) for name, context in zip(names, contexts)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """gmproxy must run inside of this context: it replaces the three parts."""
        poller_of_process()  # the poller of the process must be made with the real loop
        replaced: list[tuple[Any, str, Any]] = [
            (gevent, "get_hub", lambda: self._hub),
            (gevent, "spawn", self._spawn),
            (gevent, "sleep", lambda seconds=0.0: self._worker.sleep(seconds)),
            (connect_module, "connect", self._connect),
            (backend_module, "introduce_proxy", lambda sock, options: False),
            (health_check_module, "connect", lambda server, *settings: Control(self._worker, self.models[server.label], lambda: self.now)),
            *((module, "monotonic", lambda: self.now) for module in _WITH_CLOCKS),
            (lasting_module, "HeldWrites", lambda *arguments: self._worker.make_held_writes(*arguments)),
            *REPLACED,
        ]
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
        for owner, name, substitute in replaced:
            setattr(owner, name, substitute)
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            for owner, name, original in originals:
                setattr(owner, name, original)

    @contextmanager
    def acting(self, worker: Worker) -> Iterator[None]:
        """`worker` must run inside of this context."""
        before = self._acting
        self._acting = worker
        self._hub.loop = worker.loop
        try:
            yield
        finally:
            self._acting = before
            del self._hub.loop
            if before is not None:
                self._hub.loop = before.loop

    @property
    def _worker(self) -> Worker:
        assert self._acting is not None, "a worker runs only within `acting`"
        return self._acting

    def close(self) -> None:
        for worker in self.workers:
            with self.acting(worker):
                worker.close()
        for model in self.models.values():
            while model.links:
                model.links[0].close()

    # -- replacements of gevent and of connect

    def _spawn(self, call: Callable[..., Any], *arguments: Any) -> Task:
        task = Task(call, self._hub)
        self._worker.tasks.append(task)
        self._worker.loop.run_callback(task.switch, *arguments)
        return task

    def _connect(self, server: Server, *settings: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.models[server.label].accept(theirs, ours.fileno(), self._worker.name)
        return ours

    # -- the state

    def has_died(self, worker: Worker) -> None:
        """The process of `worker` has died."""
        number = self.workers.index(worker)
        for shared in self._shared:
            if number < len(shared.contexts):
                shared.has_died(number)
                return
            number -= len(shared.contexts)

    def shared_memory(self) -> Any:
        """The content of the memory that workers share. Two equal results mean that it has not changed."""
        return [shared.snapshot() for shared in self._shared]

    def held(self) -> list[str]:
        """What gmproxy still holds when no request is in progress, as text; must be empty."""
        found = [each for worker in self.workers if not worker.is_dead for each in worker.held()]
        found += [each for shared in self._shared for each in shared.held()]
        if internal_errors.count() > self._errors:
            found.append("internal errors")
        return found

"""One pool in service: a listen address, its clients, and the servers behind it. As in twemproxy, pools share nothing but the process."""

import functools
import logging
import time
from collections.abc import Iterable, MutableMapping, Sequence
from types import SimpleNamespace
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.backend.health import EJECTED, PROBING, UP, WARMING
from gmproxy.backend.latency import Meter
from gmproxy.client.context import PoolContext
from gmproxy.config.configuration import UNNAMED, Config, placement_for
from gmproxy.config.diff import match_backends
from gmproxy.monitoring.slow_log import SlowLog
from gmproxy.placement.builder import Placement
from gmproxy.placement.server_spec import Server
from gmproxy.routing.router import Router

#: A server that was removed from the configuration is closed when it has had no request for this many timeouts: a request that fails
#: elsewhere may still be sent to it.
LAST_TIMEOUTS = 3

#: Keys with which the part of all keys that a server has is estimated.
KEYS_TRIED = 4096


class Pool:
    """
    config        the Config of this pool
    title         its name, also where it has none
    log           where a line has the name of the pool, if it has one
    states        {backend: (its state, since when, unix time)}
    options       its settings as they are now: one object, updated at a reload, that clients and servers share
    context       what its clients share
    share         this process's part of the service (gmproxy.process.worker_context.WorkerContext)
    backends      primaries and backups
    """

    def __init__(self, config: Config, worker_context: Any) -> None:
        self.title = config.name or UNNAMED
        self.states: dict[Backend, tuple[str, float]] = {}
        self.log = PoolLogger(config.name, self.title)
        self._slow: SlowLog | None = None  # see measure
        self._placement: tuple[Config, Placement] | None = None
        self._key_shares: tuple[Any, list[float]] | None = None  # (locator, what `key_shares` returned for it)
        self._worker_context = worker_context
        self._draining: dict[Backend, float] = {}  # a Backend that was removed from the configuration -> when it was last seen busy
        self.options = SimpleNamespace(**vars(config))  # and `lanes`, from `reload` on
        self.router = Router(self.options)
        self.context = PoolContext(self.options, self.router, worker_context)
        self.backends: list[Backend] = []
        self.reload(config)

    def reload(self, config: Config) -> None:
        """Serve as `config` says from now on. Servers that stay keep their connections, health and counters; clients are not disturbed.

        Called from a greenlet; does not wait. Raises ConfigError if the keys cannot be placed."""
        self.config = config
        vars(self.options).update(vars(config), lanes=self._connections_per_server(config))
        primaries, left = self._make_backends(config.server, self.router.backends, bool(config.backup), False)
        backups, more_left = self._make_backends(config.backup, self.router.backups, False, True)
        self.router.serve(
            primaries,
            functools.partial(placement_for, config, config.server),
            backups,
            placement_for(config, config.backup).locator if backups else None,
        )
        self._draining.update(dict.fromkeys(left + more_left, float("inf")))  # only now: the router sends them no more requests
        self.backends = primaries + backups
        self.states = {backend: state for backend, state in self.states.items() if backend in self.backends}
        if self._slow is not None:
            self.measure(self._slow)
        self.context.clients.apply_options()
        if config.preconnect:
            for backend in self.backends:
                backend.preconnect()

    def _connections_per_server(self, config: Config) -> int:
        """Connections to each server. With backups it is one: then there is one order of writes for all clients (gmproxy.routing.replicate)."""
        if config.backup:
            return 1
        if config.server_connections < self._worker_context.workers and self._worker_context.number == 0:
            self.log.warning(
                "server_connections is below workers server_connections=%d workers=%d",
                config.server_connections,
                self._worker_context.workers,
            )
        return self._worker_context.part_of(config.server_connections)

    def _make_backends(
        self, servers: Sequence[Server], present: Iterable[Backend], backed: bool, is_backup: bool
    ) -> tuple[list[Backend], list[Backend]]:
        """(a Backend for each of `servers`, of those `present` or new; those of `present` that have no server any more)"""
        matched, left = match_backends(present, servers)
        backends = []
        for server, backend in zip(servers, matched):
            if backend is None:
                backend = Backend(server, self.options, self.router, self.log, backed, is_backup)
            else:
                backend.follow_options(backed)
            backend.share_invalidations(self._worker_context.server_invalidations(self.config.name, is_backup, server.label))
            backends.append(backend)
        for backend in left:
            backend.share_invalidations(None)
        return backends, left

    def run_due_tasks(self, now: float) -> None:
        """Called from the loop a few times in the shortest timeout; `now`: seconds. Never raises: what fails for one server does not
        concern the others."""
        for backend in self.backends:
            try:
                backend.tick(now)
                self._note_state(backend, now)
            except Exception:
                internal_errors.record("backend.tick", backend.log_name)
        try:
            self.context.clients.tick(now)
            if self._draining:
                self._close_drained(now)
        except Exception:
            internal_errors.record("pool.tick")

    def _close_drained(self, now: float) -> None:
        """Close the servers that were removed from the configuration and have no more requests."""
        for backend, busy_at in list(self._draining.items()):
            try:
                backend.tick(now)
            except Exception:
                internal_errors.record("backend.tick", backend.log_name)
            if backend.is_busy() or busy_at > now:
                self._draining[backend] = now
            elif now - busy_at >= LAST_TIMEOUTS * self.options.timeout:
                if backend.close():  # else at the next tick
                    del self._draining[backend]

    # -- monitoring

    def measure(self, slow: SlowLog) -> None:
        """From now on measure the latency of the servers, and record slow requests in `slow`."""
        self._slow = slow
        for backend in self.backends:
            meter = backend.meter
            if meter is None:
                meter = backend.meter = Meter(
                    self.options.slow_threshold, functools.partial(slow.record_request, self.title, backend.label)
                )
            meter.slow_threshold = self.options.slow_threshold

    def key_shares(self) -> list[float]:
        """The part of all keys, 0 to 1, that each primary has now, in their order: found with KEYS_TRIED keys."""
        locator = self.router.locator
        assert locator is not None, "the pool is loaded"
        if self._key_shares is None or self._key_shares[0] is not locator:
            counts = [0] * len(self.router.backends)
            for number in range(KEYS_TRIED):
                counts[locator.locate(b"key:%d" % number)] += 1
            self._key_shares = locator, [count / KEYS_TRIED for count in counts]
        return self._key_shares[1]

    def placement(self) -> Placement:
        """The Placement of keys while all servers live. It is made once for a configuration: a large ring takes milliseconds."""
        if self._placement is None or self._placement[0] is not self.config:
            self._placement = self.config, placement_for(self.config, self.config.server)
        return self._placement[1]

    def _note_state(self, backend: Backend, now: float) -> None:
        state = backend.health.state(now)
        if state == WARMING and not (backend.backed and self.options.on_miss == "warming"):
            state = UP  # its misses are not looked up
        if backend not in self.states or self.states[backend][0] != state:
            since = now - backend.health.ejected_at if state in (EJECTED, PROBING) else 0.0  # probes do not end the time that it is ejected
            self.states[backend] = state, time.time() - since

    def state(self, backend: Backend, now: float) -> tuple[str, float]:
        """(one of gmproxy.backend.health.STATES, since when: unix time). Of a server that is ejected or probed: since its ejection."""
        self._note_state(backend, now)
        return self.states[backend]

    def clients(self) -> int:
        """How many clients are connected."""
        return len(self.context.clients)

    def drain_clients(self, after_next_reply: bool = False) -> None:
        """Close every client as soon as it has the replies it waits for, or `after_next_reply`: after its next one."""
        self.context.clients.drain_all(after_next_reply)

    def shut_down(self) -> None:
        """Close all clients and connections at once. Never raises."""
        for close in (self.context.clients.close, *(backend.close for backend in [*self.backends, *self._draining])):
            try:
                close()
            except Exception:
                internal_errors.record("pool.close")


class PoolLogger(logging.LoggerAdapter):
    """The log of one pool. If the pool has a name, each line ends with `suffix`, which says it."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(logging.getLogger("gmproxy"), {"pool": title})
        self.suffix = f" pool={name}" if name else ""

    def process(self, message: str, options: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        return message + self.suffix, {**options, "extra": self.extra}

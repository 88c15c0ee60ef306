"""A pool: its listen addresses, clients, routes and servers. As in twemproxy, pools share nothing but the process."""

import functools
import logging
import time
from collections.abc import MutableMapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

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
from gmproxy.routing.sets import MAIN, ServerSet
from gmproxy.shared.invalidation_marks import BACKUP, GUTTER, PRIMARY, replica_role, server_name

# In Python 3.10 a LoggerAdapter takes no type argument, but for mypy it needs one.
if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    _LoggerAdapter = logging.LoggerAdapter

#: A server that was removed from the configuration is closed once it has had no request for this many timeouts: until then a request routed
#: before the removal may still be sent to it, for example by a failover.
LAST_TIMEOUTS = 3

#: Number of sample keys with which each server's part of all keys is estimated.
KEYS_TRIED = 4096


class Pool:
    """Serves one pool in one worker.

    config     the Config of this pool
    title      its name, or UNNAMED
    log        its logger, which adds the name of the pool to each line
    states     {backend: (state, time of the last change, unix time)}
    options    the settings in force: one object that clients and servers share, updated in place at a reload
    context    shared by the clients of this pool
    router     routes requests to the servers
    backends   the primary servers, then those of the backup or of each replica

    Loop callback or greenlet, except where a method says otherwise.
    """

    def __init__(self, config: Config, worker_context: Any) -> None:
        """`worker_context`: gmproxy.process.worker_context.WorkerContext. Raises ConfigError if the keys cannot be placed."""
        self.title = config.name or UNNAMED
        self.states: dict[Backend, tuple[str, float]] = {}
        self.log = PoolLogger(config.name, self.title)
        self._slow: SlowLog | None = None  # set by `measure`
        self._placement: tuple[Config, Placement] | None = None
        self._key_shares: tuple[Any, list[float]] | None = None  # (locator, result of `key_shares` for it)
        self._worker_context = worker_context
        self._draining: dict[Backend, float] = {}  # a Backend removed from the configuration -> monotonic seconds at which it was last busy
        # `reload` adds `lanes`, the connections per server; `fills_enabled` is switched by an operator
        self.options = SimpleNamespace(**vars(config), fills_enabled=worker_context.fills_enabled)
        self.router = Router(self.options)
        self.context = PoolContext(self.options, self.router, worker_context)
        self.backends: list[Backend] = []
        self._set_options: dict[str, SimpleNamespace] = {}  # name of a replica -> settings of its servers
        # names of replicas
        self._switched_off = {replica for pool, replica in worker_context.replicas_off if pool == self.title}
        self.reload(config)

    def reload(self, config: Config) -> None:
        """Serve as `config` says from now on. Servers that stay keep their connections, health and counters, and clients stay connected.

        Greenlet, but does not block. Raises ConfigError if the keys cannot be placed."""
        self.config = config
        lanes = self._connections_per_server(config)
        vars(self.options).update(vars(config), lanes=lanes)
        place = functools.partial(placement_for, config, config.server)
        copies = [(config, BACKUP, config.backup)] if config.backup else [(one, one.name, one.server) for one in config.replicas]
        if config.gutter is not None:
            copies.append((config.gutter, config.gutter.name, config.gutter.server))
        locators = [place().locator, *(placement_for(*as_placed[::2]).locator for as_placed in copies)]  # may raise: nothing has changed
        present = list(self.backends)
        sets = [ServerSet(0, MAIN, config.server_zone, self._make_backends(config.server, present, self.options, 0, PRIMARY), locators[0])]
        for index, (of_set, name, servers) in enumerate(copies, 1):
            options = self.options if of_set is config else self._options_of_set(of_set, lanes)
            role = BACKUP if of_set is config else GUTTER if of_set is config.gutter else replica_role(index)
            backends = self._make_backends(servers, present, options, index, role)
            sets.append(ServerSet(index, name, of_set.server_zone, backends, locators[index]))
            sets[-1].enabled = of_set is config or name not in self._switched_off
            for backend in backends:
                if backend.health_checker.suspended == sets[-1].enabled:
                    backend.switch(sets[-1].enabled)
        gutter = sets.pop() if config.gutter is not None else None
        self.router.serve(sets[0], place, sets[1:], gutter)
        self.backends = self.router.backends + self.router.backups
        self._drop(present, self.backends)
        self.router.share(self._worker_context.shared, config.name, self.has_roles())
        # After router.serve: no new requests are routed to the removed servers.
        self._draining.update(dict.fromkeys(present, float("inf")))
        self.states = {backend: state for backend, state in self.states.items() if backend in self.backends}
        if self._slow is not None:
            self.measure(self._slow)
        self.context.clients.apply_options()
        if config.preconnect:
            for backend in self.backends:
                if not backend.health_checker.suspended:
                    backend.preconnect()

    def switch_replica(self, name: str, is_on: bool) -> None:
        """Use the replica `name` from now on, or not; one that the pool does not have is ignored."""
        for one in self.replicas():
            if one.name == name and one.enabled != is_on:
                (self._switched_off.discard if is_on else self._switched_off.add)(name)
                one.enabled = is_on
                for backend in one.backends:
                    backend.switch(is_on)
                self.router.sets_changed()

    def replicas(self) -> list[ServerSet]:
        """The replica sets, in order."""
        return self.router.sets[1:] if self.config.replicas else []

    def _connections_per_server(self, config: Config) -> int:
        """The number of connections of this worker to each server. With copies it is one, so that all writes of a worker have one order
        (gmproxy.routing.replicate)."""
        if config.backup or config.replicas or config.gutter is not None:
            return 1
        if config.server_connections < self._worker_context.workers and self._worker_context.number == 0:
            self.log.warning(
                "server_connections is below workers server_connections=%d workers=%d",
                config.server_connections,
                self._worker_context.workers,
            )
        connections: int = self._worker_context.part_of(config.server_connections)
        return connections

    def _options_of_set(self, config: Config, lanes: int) -> SimpleNamespace:
        """The settings of a replica set: one object for each of its servers, updated in place at a reload."""
        options = self._set_options.setdefault(config.name, SimpleNamespace(fills_enabled=self.options.fills_enabled))
        vars(options).update(vars(config), lanes=lanes)
        return options

    def _make_backends(
        self, servers: Sequence[Server], present: list[Backend], options: SimpleNamespace, set_index: int, role: str
    ) -> list[Backend]:
        """A Backend for each of `servers`, the servers of one set: one of `present`, which is removed from there, or a new one."""
        backed = role != GUTTER and (bool(self.config.replicas) or (bool(self.config.backup) and not set_index))
        matched, _ = match_backends([backend for backend in present if backend.role == role], servers)
        backends = []
        for server, backend in zip(servers, matched):
            if backend is None:
                backend = Backend(server, options, self.router, self.log, self._worker_context.shared.notes, backed, set_index, role)
            else:
                present.remove(backend)
                backend.follow_options(backed)
            self._share(backend)
            backends.append(backend)
        return backends

    @staticmethod
    def _drop(removed: list[Backend], backends: list[Backend]) -> None:
        """The servers `removed` have left their sets. If one of them is in another set now, what it missed is pending there."""
        for backend in removed:
            pending = backend.missed()
            moved = next((other for other in backends if other.label == backend.label), None)
            backend.share_ejections(None)
            if moved is not None and server_name("", moved.role, "") == server_name("", backend.role, ""):
                backend.hand_over()
            else:
                backend.share(None, "", "")
            if moved is not None:
                for _, keys in pending:
                    moved.inherit(keys)

    def _share(self, backend: Backend) -> None:
        """Share with the other workers what this one knows of the server."""
        column = self._worker_context.shared
        backend.share(column, self.config.name, backend.role)
        shares = self.has_roles()
        backend.share_ejections(column.ejections_of(server_name(self.config.name, backend.role, backend.label)) if shares else None)

    def has_roles(self) -> bool:
        """True if a key may have several servers: with backups or replicas, or while servers are ejected. Only then do workers share more than
        pending invalidations."""
        config = self.config
        return bool(config.backup or config.replicas or config.auto_eject_hosts) or config.gutter is not None

    def is_settled(self) -> bool:
        """True if nothing has to be deleted on a server, now or when another is restored."""
        return not any(backend.behind or backend.stand_in_keys for backend in self.backends)

    def run_due_tasks(self, now: float) -> None:
        """Check timeouts and health. Called at each tick of the worker; `now`: monotonic seconds. Loop callback. Never raises: a failure that
        concerns one server does not affect the others."""
        try:
            self.router.follow_ejections()
        except Exception:
            internal_errors.record("router.follow_ejections")
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
            self.router.release_held_writes(now)
            self.router.write_journal()
        except Exception:
            internal_errors.record("pool.tick")

    def _close_drained(self, now: float) -> None:
        """Close the servers that were removed from the configuration and have had no request for LAST_TIMEOUTS."""
        for backend, busy_at in list(self._draining.items()):
            try:
                backend.tick(now)
            except Exception:
                internal_errors.record("backend.tick", backend.log_name)
            if backend.is_busy() or busy_at > now:
                self._draining[backend] = now
            elif now - busy_at >= LAST_TIMEOUTS * self.options.timeout:
                if backend.close():  # otherwise again at the next tick
                    del self._draining[backend]

    # -- monitoring

    def measure(self, slow: SlowLog) -> None:
        """Measure the latency of the servers, and record slow requests in `slow`, from now on."""
        self._slow = slow
        for backend in self.backends:
            meter = backend.meter
            if meter is None:
                meter = backend.meter = Meter(
                    self.options.slow_threshold, functools.partial(slow.record_request, self.title, backend.label)
                )
            meter.slow_threshold = self.options.slow_threshold

    def key_shares(self) -> list[float]:
        """The part of all keys that each primary has now, from 0 to 1, in the order of the primaries. Estimated with KEYS_TRIED keys."""
        locator = self.router.locator
        assert locator is not None, "the pool is loaded"
        if self._key_shares is None or self._key_shares[0] is not locator:
            counts = [0] * len(self.router.backends)
            for number in range(KEYS_TRIED):
                counts[locator.locate(b"key:%d" % number)] += 1
            self._key_shares = locator, [count / KEYS_TRIED for count in counts]
        return self._key_shares[1]

    def placement(self) -> Placement:
        """The Placement of keys while no server is ejected. It is computed once for a configuration: a large ring takes milliseconds."""
        if self._placement is None or self._placement[0] is not self.config:
            self._placement = self.config, placement_for(self.config, self.config.server)
        return self._placement[1]

    def _note_state(self, backend: Backend, now: float) -> None:
        state = backend.health.state(now)
        if state == WARMING and not (backend.backed and self.options.on_miss == "warming"):
            state = UP  # misses are not looked up on the backup, so clients notice nothing
        if backend not in self.states or self.states[backend][0] != state:
            since = now - backend.health.ejected_at if state in (EJECTED, PROBING) else 0.0  # a probing server is still ejected
            self.states[backend] = state, time.time() - since

    def state(self, backend: Backend, now: float) -> tuple[str, float]:
        """(one of gmproxy.backend.health.STATES, unix time since when). For an ejected or probing server: since its ejection."""
        self._note_state(backend, now)
        return self.states[backend]

    def clients(self) -> int:
        """The number of connected clients."""
        return len(self.context.clients)

    def drain_clients(self, after_next_reply: bool = False) -> None:
        """Disconnect each client once it has the replies to its requests; with `after_next_reply`, an idle client only after its next one."""
        self.context.clients.drain_all(after_next_reply)

    def shut_down(self) -> None:
        """Disconnect all clients and servers at once. Never raises."""
        for close in (self.context.clients.close, *(backend.close for backend in [*self.backends, *self._draining])):
            try:
                close()
            except Exception:
                internal_errors.record("pool.close")


class PoolLogger(_LoggerAdapter):
    """The log of one pool. If the pool has a name, each line ends with `suffix`, " pool=NAME"."""

    def __init__(self, name: str, title: str) -> None:
        super().__init__(logging.getLogger("gmproxy"), {"pool": title})
        self.suffix = f" pool={name}" if name else ""

    def process(self, message: str, options: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        return message + self.suffix, {**options, "extra": self.extra}

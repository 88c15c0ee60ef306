"""One pool in service: a listen address, its clients, and the servers behind it. As in twemproxy, pools share nothing but the process."""

import functools
import logging
import time
from types import SimpleNamespace

from gmproxy import internal_errors
from gmproxy.backend.backend import Backend
from gmproxy.backend.health import UP, WARMING
from gmproxy.backend.latency import Meter
from gmproxy.client.context import PoolContext
from gmproxy.config.configuration import UNNAMED, placement_for
from gmproxy.config.diff import match
from gmproxy.routing.router import Router

#: A server that was taken out is let go when nobody has waited for it for so many times the timeout: a request that fails elsewhere
#: may still come to ask it.
LAST_TIMEOUTS = 3

#: The part of all keys that a server has is found by so many keys.
KEYS_TRIED = 4096


class Pool:
    """
    config        the Config of this pool
    title         its name, also where it has none
    states        {backend: (its state, since when, unix time)}
    options       its settings as they are now: everybody holds this object, and sees what a reload changes
    backends      primaries and backups
    """

    def __init__(self, config, worker_context):
        self.title = config.name or UNNAMED
        self.states = {}
        self._log = PoolLog(config.name, self.title)
        self._slow = None    # see measure
        self._placement = None  # (config, what `placement` gave for it)
        self._shares = None  # (locator, what `shares` gave for it)
        self._worker_context = worker_context
        self._draining = {}  # a Backend that was taken out -> when it was last seen busy
        self.options = SimpleNamespace()
        self.router = Router(self.options)
        self.service = PoolContext(self.options, self.router, worker_context)
        self.backends = []
        self.reload(config)

    def reload(self, config):
        """Serve as `config` says from now on. Servers that stay keep their links, health and counters; clients notice nothing."""
        self.config = config
        vars(self.options).update(vars(config), lanes=self._lanes(config))
        primaries, left = self._staff(config.server, self.router.backends, bool(config.backup), False)
        backups, more_left = self._staff(config.backup, self.router.backups, False, True)
        self.router.serve(
            primaries, functools.partial(placement_for, config, config.server),
            backups, placement_for(config, config.backup).locator if backups else None,
        )
        self._draining.update(dict.fromkeys(left + more_left, float("inf")))  # only now: the router asks them no more
        self.backends = primaries + backups
        self.states = {backend: state for backend, state in self.states.items() if backend in self.backends}
        if self._slow is not None:
            self.measure(self._slow)
        self.service.clients.follow_options()
        if config.preconnect:
            for backend in self.backends:
                backend.preconnect()

    def _lanes(self, config):
        """With backups one link to each server: then there is one order of changes for all clients (copies.py)."""
        if config.backup:
            return 1
        if config.server_connections < self._worker_context.workers and self._worker_context.number == 0:
            self._log.warning("server_connections is below workers server_connections=%d workers=%d", config.server_connections, self._worker_context.workers)
        return self._worker_context.part_of(config.server_connections)

    def _staff(self, servers, present, backed, is_backup):
        """A Backend for each of `servers`, of those `present` or new; and those that are left."""
        kept, left = match(present, servers)
        staff = []
        for server, backend in zip(servers, kept):
            if backend is None:
                backend = Backend(server, self.options, self.router, self._log, backed, is_backup)
            else:
                backend.follow_options(backed)
            backend.share_invalidations(self._worker_context.server_invalidations(self.config.name, is_backup, server.label))
            staff.append(backend)
        for backend in left:
            backend.share_invalidations(None)
        return staff, left

    def tick(self, now):
        """What is due. Called from the loop a few times in the shortest timeout; what fails of one server does not concern the others."""
        for backend in self.backends:
            try:
                backend.tick(now)
                self._note_state(backend, now)
            except Exception:
                internal_errors.record("backend.tick")
        try:
            self.service.clients.tick(now)
            if self._draining:
                self._see_off(now)
        except Exception:
            internal_errors.record("pool.tick")

    def _see_off(self, now):
        """Close the servers that were taken out and that nobody needs any more."""
        for backend, busy_at in list(self._draining.items()):
            try:
                backend.tick(now)
            except Exception:
                internal_errors.record("backend.tick")
            if backend.is_busy() or busy_at > now:
                self._draining[backend] = now
            elif now - busy_at >= LAST_TIMEOUTS * self.options.timeout:
                if backend.close():  # else at the next tick
                    del self._draining[backend]

    # -- to be looked at

    def measure(self, slow):
        """From now on find out how long the servers take, and tell `slow` (gmproxy.monitoring.slow_log.Slow) of requests that took long."""
        self._slow = slow
        for backend in self.backends:
            if backend.meter is None:
                backend.meter = Meter(self.options.slow_threshold, functools.partial(slow.note, self.title, backend.label))
            backend.meter.slow_threshold = self.options.slow_threshold

    def shares(self):
        """The part of all keys that each primary has now, in their order; found by trying."""
        locator = self.router.locator
        if self._shares is None or self._shares[0] is not locator:
            counts = [0] * len(self.router.backends)
            for number in range(KEYS_TRIED):
                counts[locator.locate(b"key:%d" % number)] += 1
            self._shares = locator, [count / KEYS_TRIED for count in counts]
        return self._shares[1]

    def placement(self):
        """The Placement of keys while all servers live. It is made once for a configuration: a large ring takes milliseconds."""
        if self._placement is None or self._placement[0] is not self.config:
            self._placement = self.config, placement_for(self.config, self.config.server)
        return self._placement[1]

    def _note_state(self, backend, now):
        state = backend.health.state(now)
        if state == WARMING and not (backend.backed and self.options.on_miss == "warming"):
            state = UP  # nobody cares for its misses
        if backend not in self.states or self.states[backend][0] != state:
            self.states[backend] = state, time.time()

    def state(self, backend, now):
        """(one of gmproxy.backend.health.STATES, since when, unix time)"""
        self._note_state(backend, now)
        return self.states[backend]

    def clients(self):
        return len(self.service.clients)

    def drain(self, after_next_reply=False):
        """Let every client go as soon as it has the answers it waits for, or `after_next_reply`: the next ones."""
        self.service.clients.drain(after_next_reply)

    def close(self):
        """Never raises."""
        for part in (self.service.clients, *self.backends, *self._draining):
            try:
                part.close()
            except Exception:
                internal_errors.record("pool.close")


class PoolLog(logging.LoggerAdapter):
    """The log, where what is said is about one pool. Of several pools the line says which one."""

    def __init__(self, name, title):
        super().__init__(logging.getLogger("gmproxy"), {"pool": title})
        self._suffix = f" pool={name}" if name else ""

    def process(self, message, options):
        return message + self._suffix, {**options, "extra": self.extra}

"""One pool in service: a listen address, its clients, and the servers behind it. As in twemproxy, pools share nothing but the process."""

import functools
import logging
from types import SimpleNamespace

from gmproxy.accel import pick
from gmproxy.conf import placement_for
from gmproxy.reload import match
from gmproxy.service import Service

new_backend = pick("backend").Backend
new_router = pick("router").Router

#: A server that was taken out is let go when nobody has waited for it for so many times the timeout: a request that fails elsewhere
#: may still come to ask it.
LAST_TIMEOUTS = 3

log = logging.getLogger("gmproxy")


class Pool:
    """
    config        the Config of this pool
    options       its settings as they are now: everybody holds this object, and sees what a reload changes
    backends      primaries and backups
    """

    def __init__(self, config, share):
        self._share = share
        self._leaving = {}  # a Backend that was taken out -> when it was last seen busy
        self.options = SimpleNamespace()
        self.router = new_router(self.options)
        self.service = Service(self.options, self.router, share)
        self.backends = []
        self.reload(config)

    def reload(self, config):
        """Serve as `config` says from now on. Servers that stay keep their links, health and counters; clients notice nothing."""
        self.config = config
        vars(self.options).update(vars(config), lanes=self._share.part_of(config.server_connections))
        primaries, left = self._staff(config.server, self.router.backends, bool(config.backup))
        backups, more_left = self._staff(config.backup, self.router.backups, False)
        self._leaving.update(dict.fromkeys(left + more_left, float("inf")))
        self.router.serve(
            primaries, functools.partial(placement_for, config, config.server),
            backups, placement_for(config, config.backup).locator if backups else None,
        )
        self.backends = primaries + backups
        for session in self.service.sessions:
            session.follow_options()
        if config.preconnect:
            for backend in self.backends:
                backend.preconnect()

    def _staff(self, servers, present, backed):
        """A Backend for each of `servers`, of those `present` or new; and those that are left."""
        kept, left = match(present, servers)
        staff = []
        for server, backend in zip(servers, kept):
            if backend is None:
                backend = new_backend(server, self.options, self.router, log, backed)
            else:
                backend.follow_options(backed)
            staff.append(backend)
        return staff, left

    def tick(self, now):
        for backend in self.backends:
            backend.tick(now)
        if self._leaving:
            self._see_off(now)

    def _see_off(self, now):
        """Close the servers that were taken out and that nobody needs any more."""
        for backend, busy_at in list(self._leaving.items()):
            backend.tick(now)
            if backend.is_busy() or busy_at > now:
                self._leaving[backend] = now
            elif now - busy_at >= LAST_TIMEOUTS * self.options.timeout:
                del self._leaving[backend]
                backend.close()

    def clients(self):
        return len(self.service.sessions)

    def leave(self, softly=False):
        """Let every client go as soon as it has the answers it waits for, or `softly`: the next ones."""
        for session in list(self.service.sessions):
            session.leave(softly)

    def close(self):
        for backend in [*self.backends, *self._leaving]:
            backend.close()

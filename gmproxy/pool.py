"""One pool in service: a listen address, its clients, and the servers behind it. As in twemproxy, pools share nothing but the process."""

import functools

from gmproxy.accel import pick
from gmproxy.conf import placement_for
from gmproxy.listener import Listener
from gmproxy.service import Service

new_backend = pick("backend").Backend
new_router = pick("router").Router


class Pool:
    """
    config        the Config of this pool
    backends      primaries and backups
    """

    def __init__(self, config, bound, log, max_clients):
        self.config = config
        router = new_router(config)
        backed = bool(config.backup)
        lanes = 1 if backed else config.server_connections  # one link: one order of changes for all clients (copies.py)
        primaries = [new_backend(server, config, router, log, lanes, backed) for server in config.server]
        backups = [new_backend(server, config, router, log, lanes) for server in config.backup]
        router.serve(
            primaries, functools.partial(placement_for, config, config.server),
            backups, placement_for(config, config.backup).locator if backups else None,
        )
        self.backends = primaries + backups
        self.service = Service(config, router, max_clients)
        self._listeners = [Listener(self.service, sock) for sock in bound]

    def start(self):
        for listener in self._listeners:
            listener.start()
        if self.config.preconnect:
            for backend in self.backends:
                backend.preconnect()

    def tick(self, now):
        for backend in self.backends:
            backend.tick(now)

    def clients(self):
        return len(self.service.sessions)

    def leave(self):
        """Accept nobody any more, and let every client go as soon as it has the answers it waits for."""
        for listener in self._listeners:
            listener.stop()
        for session in list(self.service.sessions):
            session.leave()

    def close(self):
        for backend in self.backends:
            backend.close()

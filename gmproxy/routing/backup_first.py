"""Sends what is like a delete to the backup first and, when the backup has replied, to both servers, where other proxies write to the same servers.

Another proxy may be filling the primary with the value that is deleted. It reads the backup again after it has added the value (fill_sink.py). If
the primary deleted the value first, the add could follow, and the second reading could still find the value on the backup: the primary would keep it.
"""

from collections.abc import Callable

from gmproxy.backend.backend import Backend
from gmproxy.protocol import internal_commands
from gmproxy.protocol.commands import Command
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.replica_commands import is_delete_like
from gmproxy.protocol.request import COPY, ReplySink, Request, Route, new_request
from gmproxy.routing.sets import Copies


class BackupFirst(Route):
    """For writes: holds one that is like a delete until the backups of its keys have deleted them.

    next_route   where all writes are sent, by this route at the end
    server       the primary
    copies       the Copies
    held         the held writes of the pool, on all its routes
    """

    def __init__(self, next_route: Route, server: Backend, copies: Copies, held: set[Request]) -> None:
        self.next_route = next_route
        self.server = server
        self.copies = copies
        self.held = held

    def send(self, request: Request) -> ReplySink | None:
        if self.server.health.ejected or not is_delete_like(request):
            return self.next_route.send(request)
        copies = []
        for key in request.all_keys():
            for server in self.copies.of(key):
                if server.label != self.server.label:
                    copies.append((server, key, *internal_commands.delete(key)))
        return hold_until_done(request, copies, self.held, self.next_route.send)

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        return self.next_route.explain(key, is_write)


class HeldUntilDone(ReplySink):
    """The sink of requests to the backups that must be done before `request` is sent. One that fails is noted by its Backend, and counts as done.

    left   requests without a result
    """

    def __init__(self, request: Request, left: int, held: set[Request], send: Callable[[Request], ReplySink | None]) -> None:
        self.request = request
        self.left = left
        self._held = held
        self._send = send

    def on_reply(self, copy: Request) -> ReplySink | None:
        self.left -= 1
        if self.left:
            return None
        self._held.discard(self.request)
        if self.request.sink is None:
            return None  # it was abandoned
        return self._send(self.request)

    def on_failure(self, copy: Request) -> ReplySink | None:
        return self.on_reply(copy)

    def on_internal_error(self, copy: Request) -> ReplySink | None:
        self._held.discard(self.request)
        return self.request.abandon()


def hold_until_done(
    request: Request, copies: list[tuple[Backend, bytes, Command, bytes]], held: set[Request], send: Callable[[Request], ReplySink | None]
) -> ReplySink | None:
    """Send each of `copies`, (backup, key, command, line), and then `request`, by `send`; meanwhile it is one of `held`. Returns the session that
    waits for no further reply, or None. Loop callback or greenlet."""
    if not copies:
        return send(request)
    held.add(request)
    sink = HeldUntilDone(request, len(copies), held, send)
    session = None
    try:
        for backup, key, command, line in copies:
            copy = new_request(command, key, line)
            copy.sink = sink
            copy.role = COPY
            session = backup.send(copy) or session
    except Exception:
        held.discard(request)  # it is a part of one that is abandoned now
        raise
    return session

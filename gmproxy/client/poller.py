"""Waits for what clients send: all clients of this process, of all pools, in one epoll set, which the loop watches as one descriptor.

A watcher of gevent for each client would cost as much as to serve its first request (docs/decisions.md). A client that goes on gets one, with
its greenlet.
"""

from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.client.idle import IdleClients
from gmproxy.client.session import Session
from gmproxy.transport.epoll import Epoll

READ = 1


class ClientPoller:
    """Each client has a handler, by its descriptor: its Session, or the IdleClients that it is one of."""

    __slots__ = ("_handlers", "_epoll", "_watcher")

    def __init__(self) -> None:
        """Raises OSError if there is no descriptor for the set."""
        self._handlers: list[Any] = []
        self._epoll = Epoll()
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self.on_ready)

    def watch(self, fd: int, handler: Any) -> None:
        """`handler` hears, from now on, of what arrives at `fd`, also of what is there. Raises OSError where the kernel has no room, and
        then does not."""
        self._epoll.watch(fd)
        if fd >= len(self._handlers):
            self._handlers.extend([None] * (fd + 1))  # about twofold: seldom
        self._handlers[fd] = handler

    def ignore(self, fd: int) -> None:
        """The handler of `fd` has a watcher of its own, until `watch_again`. Raises OSError."""
        self._epoll.ignore(fd)

    def watch_again(self, fd: int, handler: Any) -> None:
        """As `watch`, for a client that was watched before, with another handler. Raises OSError."""
        self._handlers[fd] = handler
        self._epoll.watch_again(fd)

    def replace(self, fd: int, handler: Any) -> None:
        """The client at `fd` has another handler."""
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """The descriptor is about to be closed, and with that it leaves the set."""
        if fd < len(self._handlers):
            self._handlers[fd] = None

    def idle_clients(self, sessions: Any) -> list[tuple[int, IdleClients]]:
        """(descriptor, handler) of those clients of `sessions` that have no session."""
        return [
            (fd, handler) for fd, handler in enumerate(self._handlers) if isinstance(handler, IdleClients) and handler.sessions is sessions
        ]

    def on_ready(self) -> None:
        """Called from the loop. Never raises: gevent would never call it again. What a handler raises costs no other client."""
        epoll = self._epoll
        try:
            epoll.wait()
        except Exception:
            internal_errors.record("poller.wait")
        for index in range(epoll.count):
            try:
                self._hand_on(epoll.fd_at(index), epoll.hung_up_at(index))
            except Exception:
                internal_errors.record("poller.on_ready")

    def _hand_on(self, fd: int, hung_up: bool) -> None:
        handler = self._handlers[fd]
        if isinstance(handler, Session):
            session = handler
            session.on_readable(hung_up)
        elif handler is not None:  # else it was closed since
            idle = handler
            idle.sessions.wake(fd, hung_up, idle)


_of_process: ClientPoller | None = None


def poller_of_process() -> ClientPoller:
    """The one of this process, which lives as long as it does. Raises OSError if it cannot be made."""
    global _of_process
    if _of_process is None:
        _of_process = ClientPoller()
    return _of_process

"""Waits for bytes from all clients of this process, of all pools, with one epoll set, which the loop watches as one file descriptor.

A gevent watcher for each client would cost as much as its first request (docs/decisions.md). A client gets one together with its greenlet.
"""

from typing import Any

import gevent

from gmproxy import internal_errors
from gmproxy.client.idle import IdleClients
from gmproxy.client.session import Session
from gmproxy.transport.epoll import Epoll

READ = 1


class ClientPoller:
    """Each client has a handler, by its file descriptor: its Session, or its IdleClients. Methods: loop callback or greenlet; none blocks."""

    __slots__ = ("_handlers", "_epoll", "_watcher")

    def __init__(self) -> None:
        """Raises OSError if there is no file descriptor for the epoll set."""
        self._handlers: list[Any] = []
        self._epoll = Epoll()
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), READ)
        self._watcher.start(self.on_ready)

    def watch(self, fd: int, handler: Any) -> None:
        """Call `handler` when bytes arrive at `fd`, and for those that have arrived. Raises OSError if the kernel has no room for it."""
        self._epoll.watch(fd)
        if fd >= len(self._handlers):
            self._handlers.extend([None] * (fd + 1))  # at least doubled, so that this is rare
        self._handlers[fd] = handler

    def ignore(self, fd: int) -> None:
        """Do not call the handler of `fd` until `watch_again`. Raises OSError."""
        self._epoll.ignore(fd)

    def watch_again(self, fd: int, handler: Any) -> None:
        """As `watch`, for a client that was watched before. Raises OSError."""
        self._handlers[fd] = handler
        self._epoll.watch_again(fd)

    def replace(self, fd: int, handler: Any) -> None:
        """Call another `handler` for `fd`."""
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed, which removes it from the epoll set."""
        if fd < len(self._handlers):
            self._handlers[fd] = None

    def idle_clients(self, sessions: Any) -> list[tuple[int, IdleClients]]:
        """(file descriptor, handler) of the idle clients of `sessions`."""
        return [
            (fd, handler) for fd, handler in enumerate(self._handlers) if isinstance(handler, IdleClients) and handler.sessions is sessions
        ]

    def on_ready(self) -> None:
        """Loop callback only. Never raises: gevent would never call it again. An exception of one handler does not concern other clients."""
        epoll = self._epoll
        try:
            epoll.wait()
        except Exception:
            internal_errors.record("poller.wait")
        for index in range(epoll.count):
            try:
                self._call_handler(epoll.fd_at(index), epoll.hung_up_at(index))
            except Exception:
                internal_errors.record("poller.on_ready")

    def _call_handler(self, fd: int, hung_up: bool) -> None:
        handler = self._handlers[fd]
        if isinstance(handler, Session):
            session = handler
            session.on_readable(hung_up)
        elif handler is not None:  # else it was closed in this turn of the loop
            idle = handler
            idle.sessions.wake(fd, hung_up, idle)


_of_process: ClientPoller | None = None


def poller_of_process() -> ClientPoller:
    """The one of this process. Raises OSError if it cannot be made. Loop callback or greenlet."""
    global _of_process
    if _of_process is None:
        _of_process = ClientPoller()
    return _of_process

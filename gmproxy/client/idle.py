"""Clients that have been silent for long: of each only the descriptor is kept, in an epoll set of its own, and what its next session must
know. That is a byte, where a session, its parser and the stack of its greenlet are kilobytes.
"""

from collections.abc import Callable
from typing import Any

import gevent
from gevent.monkey import get_original

from gmproxy import internal_errors
from gmproxy.client.interfaces import State

READ = 1
EPOLLIN = 1

#: gevent takes it away because its `poll` may wait; ours never does.
_new_epoll = get_original("select", "epoll")

#: gevent's closes later if anybody waits for the descriptor; nobody does.
_close = get_original("os", "close")

#: Clients that are woken before the loop looks at the others.
MAX_WOKEN_AT_ONCE = 64

#: The descriptor belongs to nobody who is here.
ABSENT = 0


class IdleClients:
    """`wake(fd, state, after_next_reply)` is called from the loop when a client speaks, or hangs up: it is no longer here then, and `fd` is the
    callee's, also should that raise. Its `state` is that of session.py, and `after_next_reply` is True if it is to leave after its next answer.

    Whatever raises costs the client that it concerns, and no other: the descriptors that are watched and those that are known to be here
    stay the same.
    """

    def __init__(self, wake: Callable[[int, State, bool], None]) -> None:
        self._wake = wake
        self._count = 0
        # Not a dict: a number for each client, made while others are made that live shorter, would hold the memory of these.
        self._kinds = bytearray()  # fd -> its kind, or ABSENT
        self._facts: list[Any] = [None]  # kind -> (state, after_next_reply): there are a few for all clients
        self._epoll = _new_epoll()
        self._watcher = gevent.get_hub().loop.io(self._epoll.fileno(), READ)
        # Guarded: gevent never calls an io watcher again whose callback has raised, and then no sleeping client would be woken.
        self._watcher.start(internal_errors.guarded("hibernation.wake", self._wake_ready))

    def __len__(self) -> int:
        return self._count

    def add(self, fd: int, state: State, after_next_reply: bool) -> None:
        """The client at the socket `fd` is here from now on. Raises OSError where the kernel has no room: then it is not here."""
        kind = self._kind(state, after_next_reply)
        if fd >= len(self._kinds):
            self._kinds.extend(bytes(fd + 1))  # about twofold: seldom
        self._epoll.register(fd, EPOLLIN)
        self._kinds[fd] = kind
        self._count += 1

    def _kind(self, state: State, after_next_reply: bool) -> int:
        facts = state, after_next_reply
        if facts not in self._facts:
            self._facts.append(facts)
        return self._facts.index(facts)

    def _remove(self, fd: int) -> tuple[State, bool] | None:
        """(state, after_next_reply) of the client, who is no longer here; None if there is none."""
        kind = self._kinds[fd] if fd < len(self._kinds) else ABSENT
        if kind != ABSENT:
            self._kinds[fd] = ABSENT
            self._count -= 1
        try:
            self._epoll.unregister(fd)
        except OSError:  # it was closed, and with that it left the set
            internal_errors.record("hibernation.take")
        return self._facts[kind]

    def _wake_ready(self) -> int:
        """Wake some of those who spoke. Returns how many."""
        spoke = self._epoll.poll(0, MAX_WOKEN_AT_ONCE)
        for fd, _ in spoke:
            facts = self._remove(fd)
            if facts is None:
                continue
            try:
                self._wake(fd, *facts)
            except Exception:
                internal_errors.record("hibernation.wake")
        return len(spoke)

    def drain_waiting(self) -> None:
        """All who are here are to leave after their next answer."""
        after_next_reply = bytes([ABSENT, *(self._kind(state, True) for state, _ in self._facts[1:])])
        self._kinds = self._kinds.translate(after_next_reply.ljust(256, b"\0"))

    def close_all(self) -> None:
        """Wake all who spoke, and close the others."""
        while self._wake_ready():
            pass
        for fd in [fd for fd, kind in enumerate(self._kinds) if kind != ABSENT]:
            self._remove(fd)
            try:
                _close(fd)
            except OSError:
                internal_errors.record("hibernation.let_go")

    def close(self) -> None:
        self.close_all()
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()

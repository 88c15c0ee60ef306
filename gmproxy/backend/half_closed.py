"""Connections that were given up although the server may still make the changes that were sent over them.

A server that was stopped, or cut off, goes on where it was once it can: it reads what lies in its buffers, long after the proxy gave up
waiting. So such a connection is closed on our side only. When the server ends it too, it has read all there was: only then is it
certain that no old change will be made any more.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import gevent

from gmproxy import internal_errors

READ = 1

#: Bytes of late answers that are read, and thrown away, at once.
LATE_SIZE = 64 * 1024

#: For one server; beyond it the oldest is cut, and what was not delivered yet never will be.
MAX_HALF_CLOSED = 64

_CUT = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class HalfClosedConnections:
    """The connections to one server that linger. `len()` of it: how many. `log_name`: the server as values of a log line."""

    def __init__(self, log_name: str = "") -> None:
        self._log_name = log_name
        self._watchers: dict[socket.socket, Any] = {}  # socket -> its watcher

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, sock: socket.socket) -> None:
        """Send no more over `sock`, which has been ours to write to, and wait for its end."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        if len(self._watchers) >= MAX_HALF_CLOSED:
            self._cut(next(iter(self._watchers)))
        watcher = gevent.get_hub().loop.io(sock.fileno(), READ)
        self._watchers[sock] = watcher
        watcher.start(self._on_readable, sock)

    def __iter__(self) -> Iterator[socket.socket]:
        return iter(self._watchers)

    def cut(self, given_up: Iterable[socket.socket]) -> None:
        """Do not wait for the connections `given_up` any longer: what was not delivered never will be."""
        for sock in given_up:
            if sock in self._watchers:
                self._cut(sock)

    def cut_all(self) -> None:
        self.cut(list(self._watchers))

    def _on_readable(self, sock: socket.socket) -> None:
        """Called from the loop. Should it fail, the connection is closed: else it would be called again at once, for ever."""
        try:
            if os.read(sock.fileno(), LATE_SIZE):
                return  # a late answer
        except BlockingIOError:
            return
        except OSError:
            pass
        except Exception:
            internal_errors.record("lingering.on_readable", self._log_name)
        self._forget(sock)

    def _cut(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
        except OSError:
            pass  # it is cut already
        self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        watcher = self._watchers.pop(sock)
        watcher.stop()
        watcher.close()
        sock.close()

"""Connections that were given up although the server may still make the writes that were sent over them.

A server that was stopped, or unreachable, goes on later: it reads what lies in its buffers, long after the proxy has given up. So such a
connection is only shut down for sending. When the server closes it too, it has read everything: only then is it certain that it makes no
late write.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import gevent

from gmproxy import internal_errors

READ = 1

#: Bytes of late replies that are read, and discarded, at once.
LATE_SIZE = 64 * 1024

#: Maximum number for one server. Above it the oldest is reset, and what was not delivered yet never will be.
MAX_HALF_CLOSED = 64

#: SO_LINGER on, 0 s: close() resets the connection and discards what was not sent.
_RESET = struct.pack("ii", 1, 0)


class HalfClosedConnections:
    """Those of one server. Methods: loop callback or greenlet; none blocks. `log_name`: the server as a field of a log line."""

    def __init__(self, log_name: str = "") -> None:
        self._log_name = log_name
        self._watchers: dict[socket.socket, Any] = {}  # socket -> its watcher

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, sock: socket.socket) -> None:
        """Shut `sock` down for sending, and close it when the server has closed it. It is owned by this object from now on."""
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
        """Reset the connections `given_up`: what was not delivered yet never will be."""
        for sock in given_up:
            if sock in self._watchers:
                self._cut(sock)

    def cut_all(self) -> None:
        self.cut(list(self._watchers))

    def _on_readable(self, sock: socket.socket) -> None:
        """Loop callback only. Closes the connection whatever is raised: else the loop would call it again at once, without end."""
        try:
            if os.read(sock.fileno(), LATE_SIZE):
                return  # a late reply
        except BlockingIOError:
            return
        except OSError:
            pass
        except Exception:
            internal_errors.record("half_closed.on_readable", self._log_name)
        self._forget(sock)

    def _cut(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # it is reset already
        self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        watcher = self._watchers.pop(sock)
        watcher.stop()
        watcher.close()
        sock.close()

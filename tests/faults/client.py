"""A small client of the memcached protocols. It waits for each reply, and distinguishes a closed connection from a late reply."""

import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from support.timing import PATIENCE


class Lost(Exception):
    """The connection ended before the reply was complete."""


class NoAnswer(Exception):
    """No reply within PATIENCE. The connection cannot be used any more."""


class OutOfStep(Exception):
    """What arrived is not a reply to the request."""


class Item(NamedTuple):
    key: bytes
    data: bytes
    cas: int


class Client:
    """One connection, for any of the dialects (dialects.py). After any of the exceptions above the next request opens a new connection.

    local_port   the client's port of the connection, or of the last one
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.local_port = 0
        self._where = host, port
        self._socket = None
        self._file = None

    def close(self) -> None:
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None

    def ask_all(self, data: bytes, readers: Sequence[Callable[["Client"], Any]]) -> list:
        """Send `data` at once, and call each reader to read its reply. Returns what the readers return."""
        return self._converse(data, lambda: [read(self) for read in readers])

    def tell(self, data: bytes) -> None:
        """Send a request that has no reply."""
        self._converse(data, list)

    # -- for the readers

    def read_line(self) -> bytes:
        """The next line, without its line end."""
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise Lost("closed")
        if not line.endswith(b"\r\n"):
            raise OutOfStep(f"a line without CRLF: {line[:100]!r}")
        return line[:-2]

    def read_exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Lost("closed")
        return data

    # -- one exchange

    def _converse(self, data, read_answers):
        try:
            if self._socket is None:
                self._connect()
            self._socket.sendall(data)
            return read_answers()
        except TimeoutError:
            self.close()
            raise NoAnswer(f"none within {PATIENCE:.0f} s") from None
        except OSError as error:
            self.close()
            raise Lost(str(error)) from None
        except (Lost, OutOfStep):
            self.close()
            raise

    def _connect(self):
        self._socket = socket.create_connection(self._where, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local_port = self._socket.getsockname()[1]
        self._file = self._socket.makefile("rb")

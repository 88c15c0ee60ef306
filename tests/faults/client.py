"""A small client of the text protocol. It waits for each answer, and tells a lost connection from an answer that does not come."""

import socket
from typing import NamedTuple

from support.timing import PATIENCE


class Lost(Exception):
    """The connection ended before the answer was complete."""


class NoAnswer(Exception):
    """No answer within PATIENCE. The connection cannot be used any more."""


class OutOfStep(Exception):
    """What came is not an answer to what was asked."""


class Item(NamedTuple):
    key: bytes
    data: bytes
    cas: int


class Client:
    """One connection. After any of the exceptions above it connects anew with the next command."""

    def __init__(self, port, host="127.0.0.1"):
        self._where = host, port
        self._socket = None
        self._file = None

    def close(self):
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None

    def ask(self, line):
        """The one line that answers the command `line`, without its end."""
        return self._converse(line, self._read_line)

    def store(self, verb, key, data, cas=None):
        number = b"" if cas is None else b" %d" % cas
        return self.ask(b"%b %b 0 0 %d%b\r\n%b" % (verb, key, len(data), number, data))

    def retrieve(self, line):
        """The answer to a get of whatever kind: a list of Item, or the error line (bytes) in its place."""
        return self._converse(line, self._read_items)

    # -- one exchange

    def _converse(self, line, read_answer):
        try:
            if self._socket is None:
                self._connect()
            self._socket.sendall(line + b"\r\n")
            return read_answer()
        except TimeoutError:
            self.close()
            raise NoAnswer from None
        except OSError as error:
            self.close()
            raise Lost(str(error)) from None
        except (Lost, OutOfStep):
            self.close()
            raise

    def _connect(self):
        self._socket = socket.create_connection(self._where, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def _read_line(self):
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise Lost("closed")
        if not line.endswith(b"\r\n"):
            raise OutOfStep(f"a line without CRLF: {line[:100]!r}")
        return line[:-2]

    def _read_items(self):
        items = []
        while True:
            line = self._read_line()
            if line == b"END":
                return items
            if line.startswith(b"SERVER_ERROR "):
                return line
            words = line.split(b" ")
            if words[0] != b"VALUE" or len(words) not in (4, 5):
                raise OutOfStep(f"a get was answered {line[:100]!r}")
            length = int(words[3])
            data = self._file.read(length + 2)
            if len(data) < length + 2:
                raise Lost("closed")
            if not data.endswith(b"\r\n"):
                raise OutOfStep(f"a value of {words[1]!r} that does not end where it should")
            items.append(Item(words[1], data[:-2], int(words[4]) if len(words) == 5 else 0))

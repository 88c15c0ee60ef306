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

    def ask_all(self, questions):
        """Send all in one packet. `questions` are (line, whether it is a retrieval); a line has its data block if there is one, but
        not its last CRLF. Returns the answers: the line without its end or, to a retrieval, a list of Item if it is no error."""
        return self._converse(
            b"".join(line + b"\r\n" for line, _ in questions),
            lambda: [self._read_items() if retrieves else self._read_line() for _, retrieves in questions],
        )

    def tell(self, line):
        """Send what has no answer."""
        self._converse(line + b"\r\n", lambda: None)

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
            if words[0] != b"VALUE" or len(words) not in (4, 5) or not all(word.isdigit() for word in words[2:]):
                raise OutOfStep(f"a get was answered {line[:100]!r}")
            length = int(words[3])
            data = self._file.read(length + 2)
            if len(data) < length + 2:
                raise Lost("closed")
            if not data.endswith(b"\r\n"):
                raise OutOfStep(f"a value of {words[1]!r} that does not end where it should")
            items.append(Item(words[1], data[:-2], int(words[4]) if len(words) == 5 else 0))

"""Messages between the processes of the service, and from a local operator: one JSON object a line, perhaps with sockets.

    {"command": "stats", "arguments": []}     a question: what is asked, of whom or how
    {...}                                     its answer; {"error": "..."} if there is none

Between master and workers a question has a number, `ask`, and its answer the same number, `answer`.
"""

import array
import json
import os
import socket
import struct
from collections.abc import Sequence

from gmproxy.system import sockets

#: Whoever is on the other side and does not take what we send within so many seconds is given up. In a greenlet there is no such
#: bound: it alone waits.
SEND_TIMEOUT = 1

#: A question from outside is no longer than this; bytes.
MAX_QUESTION = 64 * 1024

#: Sockets in one message: the kernel's bound (SCM_MAX_FD).
MAX_SOCKETS = 253

#: Who may connect to the control socket: the service's user and group.
MODE = "0660"

#: Operators who may wait to be accepted: twice as many as may be connected (operators.MAX_OPERATORS). One more is refused by the kernel and tries again.
BACKLOG = 128

_RECEIVE = 64 * 1024


class Channel:
    """One end of a connected stream socket, of which this becomes the owner.

    limit           bytes of the longest message taken; None for what comes from our own processes
    takes_sockets   True if sockets may come with a message. Else the kernel closes what is passed to us, as nobody asks for it

    The methods wait as the socket does: a blocking one the caller, one of gevent its greenlet, a non-blocking one not at all.
    """

    def __init__(self, sock: socket.socket, limit: int | None = None, takes_sockets: bool = False) -> None:
        self.sock = sock
        self._limit = limit
        self._takes_sockets = takes_sockets
        self._unread = b""
        self._sockets: list[socket.socket] = []  # that came, and whose message has not ended yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
        self.sock.close()

    def send(self, message: dict, given: Sequence[socket.socket] = ()) -> None:
        """Send `message`, and the sockets `given` (they stay open here). Raises OSError."""
        data = json.dumps({**message, "sockets": len(given)} if given else message).encode() + b"\n"
        if given:
            numbers = array.array("i", [sock.fileno() for sock in given])
            count = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            data = data[count:]
        self.sock.sendall(data)

    def receive(self) -> list[tuple[dict, list[socket.socket]]]:
        """The next messages, each with its sockets, after waiting for something to come. Raises EOFError at the end, OSError, and
        ValueError for what is no message."""
        data = self._receive_with_sockets() if self._takes_sockets else self.sock.recv(_RECEIVE)
        if not data:
            raise EOFError
        *lines, self._unread = (self._unread + data).split(b"\n")
        if self._limit is not None and max(map(len, (self._unread, *lines))) > self._limit:
            raise ValueError("the message is too long")
        return [self._read(line) for line in lines]

    def _receive_with_sockets(self) -> bytes:
        numbers = array.array("i")
        data, ancillary, _, _ = self.sock.recvmsg(_RECEIVE, socket.CMSG_SPACE(MAX_SOCKETS * numbers.itemsize))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(content[:len(content) - len(content) % numbers.itemsize])
        for place, number in enumerate(numbers):
            try:
                os.set_inheritable(number, False)
                self._sockets.append(socket.socket(fileno=number))
            except OSError:  # it is no socket: the message cannot be what it should be, and none of the rest may stay open
                for left in numbers[place:]:
                    os.close(left)
                raise
        return data

    def _read(self, line: bytes) -> tuple[dict, list[socket.socket]]:
        message = _parsed(line)
        count = message.pop("sockets", 0) if self._takes_sockets else 0
        taken, self._sockets = self._sockets[:count], self._sockets[count:]
        return message, taken


def _parsed(line: bytes) -> dict:
    """Raises ValueError."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None
    except MemoryError:
        raise ValueError("there is no memory for the message") from None
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def question(message: dict) -> tuple[str, list[str]]:
    """(command, arguments) of a question from outside. Raises ValueError."""
    command, arguments = message.get("command"), message.get("arguments", [])
    if not isinstance(command, str) or not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        raise ValueError('expected {"command": "...", "arguments": ["...", ...]}')
    for word in (command, *arguments):
        os.fsencode(word)  # half of a surrogate pair is no text; UnicodeEncodeError is a ValueError
    return command, arguments


def listen(path: str, owner: tuple[int, int]) -> socket.socket:
    """The listening control socket at `path`, for `owner` (user and group number; -1: as it is) alone. Raises StartError."""
    return sockets.bind_unix(path, BACKLOG, MODE, owner)


def ask(path, command, *arguments, timeout=10.0):
    """Ask the service whose control socket is at `path`. Returns its answer, a dict. Raises OSError, ValueError, EOFError."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        channel = Channel(sock)
        channel.send({"command": command, "arguments": list(arguments)})
        messages = []
        while not messages:
            messages = channel.receive()
        return messages[0][0]

"""Messages between an operator and the service, and between master and workers: one JSON object per line.

    {"command": "stats", "arguments": []}     a command
    {...}                                     its result; {"error": "..."} if it failed

Between master and workers a command has a number, `call`, and its result the same number, `reply`; and sockets may be passed with a message.
"""

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from gmproxy.system import sockets

#: A message: a JSON object.
Message = dict[str, Any]

#: A send on a blocking socket fails if the other end reads nothing for this many seconds. A greenlet's send has no timeout: only the greenlet
#: waits.
SEND_TIMEOUT = 1

#: Maximum length of an operator's command in bytes.
MAX_COMMAND = 64 * 1024

#: Maximum number of sockets passed with one message: the kernel's limit (SCM_MAX_FD).
MAX_SOCKETS = 253

#: Permission bits of the control socket: only the service's user and group may connect.
MODE = "0660"

#: Maximum number of operators that wait to be accepted: twice the number that may be connected (process.control_server.MAX_OPERATORS). Beyond
#: it the kernel refuses connections.
BACKLOG = 128

#: Maximum number of bytes in one receive.
_RECEIVE = 64 * 1024


class Channel:
    """Sends and receives messages over a connected stream socket, which it takes over.

    limit           maximum length of a received message in bytes; None for messages of the service's own processes
    takes_sockets   True if sockets may be passed with received messages; otherwise the kernel closes them

    The methods block as the socket does: a blocking socket blocks the thread, gevent's socket the greenlet; a non-blocking one raises
    BlockingIOError.
    """

    def __init__(self, sock: socket.socket, limit: int | None = None, takes_sockets: bool = False) -> None:
        self.sock = sock
        self._limit = limit
        self._takes_sockets = takes_sockets
        self._unread = b""
        self._sockets: list[socket.socket] = []  # received with a message that is not complete yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
        self.sock.close()

    def send_message(self, message: Message, passed: Sequence[socket.socket] = ()) -> None:
        """Send `message` with copies of the sockets `passed`. Raises OSError."""
        data = encode(message, len(passed))
        if passed:
            descriptors = array.array("i", [sock.fileno() for sock in passed])
            count = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            data = data[count:]
        self.sock.sendall(data)

    def receive(self) -> list[tuple[Message, list[socket.socket]]]:
        """The messages completed by one receive, each with the sockets passed with it; the list may be empty. Raises EOFError at the end of the
        stream, OSError, and ValueError if the data is not a message."""
        data = self._receive_with_sockets() if self._takes_sockets else self.sock.recv(_RECEIVE)
        if not data:
            raise EOFError
        *lines, self._unread = (self._unread + data).split(b"\n")
        if self._limit is not None and max(map(len, (self._unread, *lines))) > self._limit:
            raise ValueError(f"the message is longer than {self._limit} bytes")
        return [self._decode(line) for line in lines]

    def _receive_with_sockets(self) -> bytes:
        descriptors = array.array("i")
        data, ancillary, _, _ = self.sock.recvmsg(_RECEIVE, socket.CMSG_SPACE(MAX_SOCKETS * descriptors.itemsize))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        for index, descriptor in enumerate(descriptors):
            try:
                os.set_inheritable(descriptor, False)
                self._sockets.append(socket.socket(fileno=descriptor))
            except OSError:  # not a socket, so the message is not valid: close the remaining descriptors
                for unused in descriptors[index:]:
                    os.close(unused)
                raise
        return data

    def _decode(self, line: bytes) -> tuple[Message, list[socket.socket]]:
        message = _parse(line)
        count = message.pop("sockets", 0) if self._takes_sockets else 0
        passed, self._sockets = self._sockets[:count], self._sockets[count:]
        return message, passed


def encode(message: Message, sockets: int = 0) -> bytes:
    """The line for `message`, to be sent with `sockets` sockets. Raises TypeError or ValueError if JSON cannot express it."""
    return json.dumps({**message, "sockets": sockets} if sockets else message).encode() + b"\n"


def _parse(line: bytes) -> Message:
    """The message in `line`. Raises ValueError."""
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None
    except MemoryError:
        raise ValueError("not enough memory for the message") from None
    if not isinstance(message, dict):
        raise ValueError("the message is not a JSON object")
    return message


def parse_command(message: Message) -> tuple[str, list[str]]:
    """(command, arguments) of an operator's message. Raises ValueError."""
    command, arguments = message.get("command"), message.get("arguments", [])
    if not isinstance(command, str) or not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        raise ValueError('expected {"command": "...", "arguments": ["...", ...]}')
    for word in (command, *arguments):
        os.fsencode(word)  # raises UnicodeEncodeError, a ValueError, for half of a surrogate pair
    return command, arguments


def listen(path: str, owner: tuple[int, int]) -> socket.socket:
    """The listening control socket at `path`, to which only `owner` may connect: user id and group id, -1 for those of this process. Raises
    StartError."""
    return sockets.bind_unix(path, BACKLOG, MODE, owner)


def send_command(path: str, command: str, *arguments: str, timeout: float = 10.0) -> Message:
    """Send a command to the service at the control socket `path`, and return the result. Blocks: to connect, to send, and for each receive,
    up to `timeout` seconds. Raises OSError; ValueError if the reply is not a message; EOFError if the service closes the connection."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        channel = Channel(sock)
        channel.send_message({"command": command, "arguments": list(arguments)})
        messages: list[tuple[Message, list[socket.socket]]] = []
        while not messages:
            messages = channel.receive()
        return messages[0][0]

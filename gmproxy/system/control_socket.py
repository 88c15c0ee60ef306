"""Messages between the processes of the service, and from a local operator: one JSON object per line, optionally with sockets.

    {"command": "stats", "arguments": []}     a command
    {...}                                     its result; {"error": "..."} if there is none

Between master and workers a command has a number, `ask`, and its result the same number, `answer`.
"""

import array
import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

from gmproxy.system import sockets

#: A JSON object.
Message = dict[str, Any]

#: A blocking send fails if the other end reads nothing for this many seconds. In a greenlet there is no such limit: it alone waits.
SEND_TIMEOUT = 1

#: Bytes of a command from an operator, at most.
MAX_COMMAND = 64 * 1024

#: Sockets in one message: the kernel's bound (SCM_MAX_FD).
MAX_SOCKETS = 253

#: Who may connect to the control socket: the service's user and group.
MODE = "0660"

#: Operators that may wait to be accepted: twice as many as may be connected (process.control_server.MAX_OPERATORS). For more the kernel
#: refuses the connection, and the tools try again.
BACKLOG = 128

_RECEIVE = 64 * 1024


class Channel:
    """One end of a connected stream socket, of which this becomes the owner.

    limit           maximum length of a message, bytes; None for messages of our own processes
    takes_sockets   True if sockets may come with a message. Else the kernel closes what is passed to us

    The methods wait as the socket does: a blocking socket blocks the thread, one of gevent its greenlet, a non-blocking one raises
    BlockingIOError.
    """

    def __init__(self, sock: socket.socket, limit: int | None = None, takes_sockets: bool = False) -> None:
        self.sock = sock
        self._limit = limit
        self._takes_sockets = takes_sockets
        self._unread = b""
        self._sockets: list[socket.socket] = []  # received, and whose message is not complete yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
        self.sock.close()

    def send_message(self, message: Message, passed: Sequence[socket.socket] = ()) -> None:
        """Send `message`, and pass the sockets `passed` (they stay open here). Raises OSError."""
        data = encode(message, len(passed))
        if passed:
            descriptors = array.array("i", [sock.fileno() for sock in passed])
            count = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            data = data[count:]
        self.sock.sendall(data)

    def receive(self) -> list[tuple[Message, list[socket.socket]]]:
        """The next messages, each with its sockets, after one read; empty if none is complete yet. Raises EOFError at the end of the
        connection, OSError, and ValueError for what is not a message."""
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
            except OSError:  # not a socket: the message cannot be valid, and none of the rest may stay open
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
    """The line for `message`, with which `sockets` sockets are passed. Raises TypeError, ValueError for what JSON cannot express."""
    return json.dumps({**message, "sockets": sockets} if sockets else message).encode() + b"\n"


def _parse(line: bytes) -> Message:
    """Raises ValueError."""
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
        os.fsencode(word)  # half of a surrogate pair is no text; UnicodeEncodeError is a ValueError
    return command, arguments


def listen(path: str, owner: tuple[int, int]) -> socket.socket:
    """The listening control socket at `path`, for `owner` (user and group number; -1: as it is) alone. Raises StartError."""
    return sockets.bind_unix(path, BACKLOG, MODE, owner)


def send_command(path: str, command: str, *arguments: str, timeout: float = 10.0) -> Message:
    """Send a command to the service whose control socket is at `path`. Returns the result. Each wait takes up to `timeout` seconds.
    Raises OSError, ValueError, EOFError."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        channel = Channel(sock)
        channel.send_message({"command": command, "arguments": list(arguments)})
        messages: list[tuple[Message, list[socket.socket]]] = []
        while not messages:
            messages = channel.receive()
        return messages[0][0]

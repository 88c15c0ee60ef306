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

from gmproxy import sockets
from gmproxy.errors import StartError

#: Whoever is on the other side and does not take what we send within so many seconds is given up. In a greenlet there is no such
#: bound: it alone waits.
SEND_TIMEOUT = 1

#: A question from outside is no longer than this; bytes.
MAX_QUESTION = 64 * 1024

#: Sockets in one message: the kernel's bound (SCM_MAX_FD).
MAX_SOCKETS = 253

#: Who may connect to the control socket: the service's user and group.
MODE = "0660"

_RECEIVE = 64 * 1024


class Channel:
    """One end of a connected stream socket, of which this becomes the owner. `limit`: bytes of the longest message taken."""

    def __init__(self, sock, limit=None):
        self.sock = sock
        self._limit = limit
        self._unread = b""
        self._sockets = []  # that came, and whose message has not ended yet
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT, 0))

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()

    def send(self, message, given=()):
        """Send `message`, a dict, and the sockets `given` (a list; they stay open here). Raises OSError."""
        data = json.dumps({**message, "sockets": len(given)} if given else message).encode() + b"\n"
        if given:
            numbers = array.array("i", [sock.fileno() for sock in given])
            count = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
            data = data[count:]
        self.sock.sendall(data)

    def receive(self):
        """The next messages, [(dict, list of sockets)], after waiting for something to come. Raises EOFError at the end, and
        ValueError for what is no message."""
        numbers = array.array("i")
        data, ancillary, _, _ = self.sock.recvmsg(_RECEIVE, socket.CMSG_SPACE(MAX_SOCKETS * numbers.itemsize))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers.frombytes(content[:len(content) - len(content) % numbers.itemsize])
        for number in numbers:
            os.set_inheritable(number, False)
            self._sockets.append(socket.socket(fileno=number))
        if not data:
            raise EOFError
        *lines, self._unread = (self._unread + data).split(b"\n")
        if self._limit is not None and len(self._unread) > self._limit:
            raise ValueError("the message is too long")
        return [self._read(line) for line in lines]

    def _read(self, line):
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("a message is a JSON object")
        count = message.pop("sockets", 0) if self._limit is None else 0
        taken, self._sockets = self._sockets[:count], self._sockets[count:]
        return message, taken


def question(message):
    """(command, arguments) of a question from outside. Raises ValueError."""
    command, arguments = message.get("command"), message.get("arguments", [])
    if not isinstance(command, str) or not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        raise ValueError('expected {"command": "...", "arguments": ["...", ...]}')
    return command, arguments


def listen(path, owner):
    """The listening control socket at `path`, for `owner` (user and group number; -1: as it is) alone. Raises StartError."""
    sock = sockets.bind_unix(path, 16, MODE)
    try:
        os.chown(path, *owner)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot give {path} to its owner: {error.strerror}") from None
    return sock


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

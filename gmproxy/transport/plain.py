"""Accepting, receiving, sending and closing without encryption. Nothing else touches a client's socket, or a server's on the path of a request.

This hot module is written twice, since a system call whose buffer is a C pointer cannot be written in Python: plain.pyx calls recv(2) and
send(2) on memory that its callers own, where Python's `socket` makes an object for each chunk. tests/unit/transport/test_plain.py holds both
to one behaviour.
"""

import os
from posix import close as _close  # gevent's os.close looks whether somebody waits for the descriptor, and closes it later. Nobody does.

from gmproxy.transport import tcp

#: The result of `recv_into` if nothing has arrived, and of `accept` if nobody waits.
NOTHING = -1

#: Bytes sent at once: then others have their turn. What the kernel has not got, it cannot send on by itself as the peer takes it.
SEND_AT_ONCE = 1024 * 1024


class PlainTransport:
    """The system calls. It is an object, and there is one, since the compiled build calls the methods of objects without a detour.

    Sockets are given by their file descriptors, and are not blocking. May be called from a loop callback or a greenlet; never waits.
    """

    __slots__ = ()

    def recv_into(self, fd: int, buffer: bytearray, size: int) -> int:
        """Receive at most `size` bytes, which is the size of `buffer`, into it: returns how many bytes, 0 once the peer has closed, NOTHING if
        there are none now. Raises OSError if the connection is broken."""
        try:
            return os.readv(fd, (buffer,))
        except BlockingIOError:
            return NOTHING

    def send(self, fd: int, data: bytes, offset: int) -> int:
        """Send data[offset:], or the beginning of it: returns how many bytes the kernel took, 0 if it can take none now. Raises OSError if the
        connection is broken."""
        try:
            return os.write(fd, memoryview(data)[offset : offset + SEND_AT_ONCE] if len(data) > SEND_AT_ONCE else data[offset:])
        except BlockingIOError:
            return 0

    def accept(self, fd: int) -> int:
        """The descriptor of the next connection at the listening socket `fd`, not blocking and not inherited by programs; NOTHING if there is
        none. Raises OSError: see transport/accept.py for what may fail."""
        accepted = tcp.accept(fd)
        return NOTHING if accepted is None else accepted[0]

    def close(self, fd: int) -> None:
        """Close a descriptor that nobody waits for. Raises OSError, and it is closed all the same."""
        _close(fd)


PLAIN = PlainTransport()

"""Accept, receive, send and close without encryption. On the path of a request nothing else touches the socket of a client or a server.

This hot module is written twice: plain.pyx calls recv(2) and send(2) with a C pointer to memory of the caller, which Python cannot do; Python's
`socket` makes an object for each chunk. tests/unit/transport/test_plain.py checks that both behave the same.
"""

import os
from posix import close as _close  # not gevent's os.close, which closes later if a greenlet waits for the descriptor: none does

from gmproxy.transport import tcp

#: The result of `recv_into` if no data has arrived, and of `accept` if no connection waits.
NOTHING = -1

#: Maximum number of bytes in one send, so that other connections have their turn. It is large, so that the kernel has data to send on while
#: this process serves them.
SEND_AT_ONCE = 1024 * 1024


class PlainTransport:
    """The system calls, as methods of a single object: the compiled build calls methods of an object directly, without Python's calling
    convention.

    Sockets are given by their file descriptors and are non-blocking. Loop callback or greenlet; nothing here blocks.
    """

    __slots__ = ()

    def recv_into(self, fd: int, buffer: bytearray, size: int) -> int:
        """Receive into `buffer`, whose length is `size` bytes. Returns the number of bytes received, 0 at the end of the stream, NOTHING if no
        data has arrived. Raises OSError if the connection is broken."""
        try:
            return os.readv(fd, (buffer,))
        except BlockingIOError:
            return NOTHING

    def send(self, fd: int, data: bytes, offset: int) -> int:
        """Send data[offset:] or its beginning. Returns the number of bytes sent, 0 if the socket is not writable. Raises OSError if the
        connection is broken."""
        try:
            return os.write(fd, memoryview(data)[offset : offset + SEND_AT_ONCE] if len(data) > SEND_AT_ONCE else data[offset:])
        except BlockingIOError:
            return 0

    def accept(self, fd: int) -> int:
        """Accept the next connection at the listening socket `fd`. Returns its descriptor, non-blocking and not inheritable, or NOTHING if none
        waits. Raises OSError; transport/accept.py lists the errors."""
        accepted = tcp.accept(fd)
        return NOTHING if accepted is None else accepted[0]

    def close(self, fd: int) -> None:
        """Close the descriptor `fd`, for which no greenlet waits. It is closed even if OSError is raised."""
        _close(fd)


PLAIN = PlainTransport()

"""Waiting for a socket or an event, in a greenlet, until a deadline that does not come while this process is paused."""

import socket
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.monkey import get_original
from gevent.socket import wait_read, wait_write

from gmproxy.system.clock import running

#: gevent's replacement waits in the loop; this one only looks.
_new_poll = get_original("select", "poll")

POLLIN, POLLOUT = 1, 4

#: Seconds: gevent takes a shorter timeout for none at all.
SHORTEST_WAIT = 0.001


class Deadline:
    """`seconds` from now on, for one wait or several that share them. All that waits is for greenlets only.

    The waits raise TimeoutError once the time is over, but not for a socket that has become ready by then: a loop that comes late finds
    timers and sockets due at once.
    """

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = running.now() + seconds

    def left(self) -> float:
        """Seconds; 0.0 once it is over."""
        return max(self._at - running.now(), 0.0)

    def share(self, parts: int) -> "Deadline":
        """The end of the first of `parts` equal parts of what is left."""
        return Deadline(self.left() / parts)

    def wait_readable(self, fd: int) -> None:
        """Wait until there is something to read from `fd`, or its end."""
        self._wait(fd, wait_read, POLLIN)

    def wait_writable(self, fd: int) -> None:
        """Wait until `fd` takes bytes, or is connected, or has failed."""
        self._wait(fd, wait_write, POLLOUT)

    def wait_for(self, event: Event) -> None:
        """Wait until `event` is set."""
        while not event.wait(max(self.left(), SHORTEST_WAIT)):
            if not self.left():
                raise TimeoutError("timed out")

    def sleep(self, seconds: float) -> None:
        """Sleep for so long, or for what is left."""
        if not self.left():
            raise TimeoutError("timed out")
        gevent.sleep(min(seconds, self.left()))

    def _wait(self, fd: int, wait: Callable[..., None], event: int) -> None:
        while True:
            if left := self.left():
                try:
                    wait(fd, max(left, SHORTEST_WAIT))
                    return
                except TimeoutError:
                    pass  # perhaps it is ready all the same, or the process was paused
            if _is_ready(fd, event):
                return
            if not self.left():
                raise TimeoutError("timed out")


def _is_ready(fd: int, event: int) -> bool:
    poll = _new_poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def send_all(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Hand `data` to the kernel; `sock` does not block. Raises OSError, and TimeoutError at the `deadline`."""
    unsent = memoryview(data)
    while unsent:
        try:
            unsent = unsent[sock.send(unsent) :]
        except BlockingIOError:
            deadline.wait_writable(sock.fileno())


def receive(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    """The next bytes, at most `size`, or b"" at the end; `sock` does not block. Raises OSError, and TimeoutError at the `deadline`."""
    while True:
        try:
            return sock.recv(size)
        except BlockingIOError:
            deadline.wait_readable(sock.fileno())

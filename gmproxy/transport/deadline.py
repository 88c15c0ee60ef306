"""Waits for a socket or an event in a greenlet until a deadline. Time for which this process is paused does not count (system/clock.py)."""

import socket
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.monkey import get_original
from gevent.socket import wait_read, wait_write

from gmproxy.system.clock import running

#: Python's own poll, which is called with a timeout of 0. gevent's would run the loop.
_new_poll = get_original("select", "poll")

POLLIN, POLLOUT = 1, 4

#: Seconds. gevent treats a shorter timeout as none.
SHORTEST_WAIT = 0.001


class Deadline:
    """A deadline `seconds` from now, for one wait or several. Greenlet only.

    A wait raises TimeoutError at the deadline, but not if its socket has become ready by then: if the loop is late, timers and sockets are due at
    the same time, and the timer must not win.
    """

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = running.now() + seconds

    def left(self) -> float:
        """Seconds until the deadline; 0.0 once it has passed."""
        return max(self._at - running.now(), 0.0)

    def share(self, parts: int) -> "Deadline":
        """A deadline after one of `parts` equal parts of the time left."""
        return Deadline(self.left() / parts)

    def wait_readable(self, fd: int) -> None:
        """Wait until `fd` is readable: data, the end of the stream, or an error."""
        self._wait(fd, wait_read, POLLIN)

    def wait_writable(self, fd: int) -> None:
        """Wait until `fd` is writable, is connected, or has failed."""
        self._wait(fd, wait_write, POLLOUT)

    def wait_for(self, event: Event) -> None:
        """Wait until `event` is set."""
        while not event.wait(max(self.left(), SHORTEST_WAIT)):
            if not self.left():
                raise TimeoutError("timed out")

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`, or until the deadline if that is earlier. Raises TimeoutError if it has passed already."""
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
                    pass  # the socket may be ready all the same, or the process was paused
            if _is_ready(fd, event):
                return
            if not self.left():
                raise TimeoutError("timed out")


def _is_ready(fd: int, event: int) -> bool:
    poll = _new_poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def send_all(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Send `data` to `sock`, which is non-blocking. Greenlet only: blocks until the kernel has all of it. Raises OSError, TimeoutError at the
    `deadline`."""
    unsent = memoryview(data)
    while unsent:
        try:
            unsent = unsent[sock.send(unsent) :]
        except BlockingIOError:
            deadline.wait_writable(sock.fileno())


def receive(sock: socket.socket, size: int, deadline: Deadline) -> bytes:
    """Receive at most `size` bytes from `sock`, which is non-blocking; b"" at the end of the stream. Greenlet only: blocks until data arrives.
    Raises OSError, TimeoutError at the `deadline`."""
    while True:
        try:
            return sock.recv(size)
        except BlockingIOError:
            deadline.wait_readable(sock.fileno())

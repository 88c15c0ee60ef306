"""A non-blocking message connection, to a worker or to an operator at the control socket."""

import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy import internal_errors
from gmproxy.system import control_socket
from gmproxy.system.control_socket import Message
from gmproxy.system.select_loop import EventLoop

#: The reason passed to `on_lost` if the other end has closed the connection.
CLOSED = "closed"

#: Maximum number of bytes in one send.
_CHUNK = 256 * 1024


class Peer:
    """Sends and receives messages, JSON objects, over a socket that it takes over. Its parameters:

    on_message(message)   is called for each message, a dict
    on_lost(reason)       is called once, when the connection can no longer send or receive. `read_rest` can still read what has arrived
    on_end(error)         is called when no more messages can be received, while they can still be sent. `error` is None at the end of the
                          stream, else the text says why the data is not a message. Without on_end the peer is lost then
    on_drained()          is called when all messages that had to wait are sent
    max_unsent            maximum number of bytes waiting to be sent; a single message may be longer
    stall_timeout         seconds after which the peer is lost if the other end has read none of the waiting bytes
    limit                 maximum length of a received message in bytes, or None

    The methods do not block: loop callback or greenlet. The loop calls the callbacks, except on_drained and on_lost, which `send_message` may
    call itself, and on_lost, which `lose` calls.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        on_message: Callable[[Message], Any],
        on_lost: Callable[[str], Any],
        *,
        max_unsent: int,
        stall_timeout: float,
        limit: int | None = None,
        on_end: Callable[[str | None], Any] | None = None,
        on_drained: Callable[[], Any] | None = None,
    ) -> None:
        sock.setblocking(False)
        self.channel = control_socket.Channel(sock, limit)
        self.is_lost = False
        self.unsent = 0  # bytes that wait to be sent
        self._has_ended = False  # True once no more messages can be received
        self._loop = loop
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_end = on_end
        self._on_drained = on_drained
        self._max_unsent = max_unsent
        self._stall_timeout = stall_timeout
        self._queue: deque[tuple[bytes, list[int]]] = deque()  # data, and descriptors to pass with its first byte
        self._sent = 0  # bytes, since the start
        self._timer: Any = None  # runs while the socket is not writable
        self._is_blocked = False  # True while the socket is not writable
        self.resume_reading()

    # -- receiving

    def resume_reading(self) -> None:
        """Receive messages from now on."""
        if not self.is_lost and not self._has_ended:
            self._loop.add_reader(self.channel.sock, self._on_readable, lambda: self.lose("internal error"))

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`. Data waits in the kernel, and once its buffer is full, at the other end."""
        self._loop.remove_reader(self.channel.sock)

    def _on_readable(self) -> None:
        try:
            messages = self.channel.receive()
        except BlockingIOError:
            return
        except EOFError:
            self._end(None)
            return
        except ValueError as error:
            self._end(str(error))
            return
        except OSError as error:
            self._lose_by(error)
            return
        for message, _ in messages:
            self._on_message(message)

    def _lose_by(self, error: OSError) -> None:
        self.lose(CLOSED if error.errno in (errno.EPIPE, errno.ECONNRESET) else str(error))

    def _end(self, error: str | None) -> None:
        if self._on_end is None:
            self.lose(error or CLOSED)
        else:
            self._has_ended = True
            self.pause_reading()
            self._on_end(error)

    # -- sending

    def send_message(self, message: Message, passed: Sequence[socket.socket] = ()) -> None:
        """Send `message` now or as soon as the socket is writable, with copies of the sockets `passed`, which may be closed at once. Nothing
        is sent to a lost peer."""
        if self.is_lost:
            return
        data = control_socket.encode(message, len(passed))
        if self.unsent and self.unsent + len(data) > self._max_unsent:
            self.lose(f"more than {self._max_unsent} bytes wait to be sent")
            return
        self._queue.append((data, [os.dup(sock.fileno()) for sock in passed]))
        self.unsent += len(data)
        self._send_queue()

    def _send_queue(self) -> None:
        try:
            while self._queue:
                data, descriptors = self._queue[0]
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
                count = self.channel.sock.sendmsg([memoryview(data)[:_CHUNK]], ancillary, socket.MSG_NOSIGNAL)
                _close_all(descriptors)
                self.unsent -= count
                self._sent += count
                if count < len(data):
                    self._queue[0] = data[count:], []
                else:
                    self._queue.popleft()
        except BlockingIOError:
            self._is_blocked = True
            self._loop.add_writer(self.channel.sock, self._send_queue)
            self._start_timer()
            return
        except OSError as error:
            self._lose_by(error)
            return
        if self._is_blocked:
            self._is_blocked = False
            self._loop.remove_writer(self.channel.sock)
            self._loop.cancel(self._timer)
            self._timer = None
            if self._on_drained is not None:
                self._on_drained()

    def _start_timer(self) -> None:
        """Give the other end `stall_timeout` seconds to read something."""
        if self._timer is None:
            sent = self._sent

            def check() -> None:
                self._timer = None
                self._send_queue()  # the kernel reports a unix socket as writable only once three quarters of its buffer are free
                if self.is_lost or not self._queue:
                    return
                if self._sent == sent:
                    self.lose(f"read nothing for {self._stall_timeout:g} s")
                else:
                    self._start_timer()

            self._timer = self._loop.call_later(self._stall_timeout, check)

    # -- closing

    def lose(self, reason: str) -> None:
        """Stop sending and receiving, and call `on_lost(reason)`. A second call does nothing."""
        if not self.is_lost:
            self.is_lost = True
            self._loop.remove(self.channel.sock)
            try:
                self._loop.cancel(self._timer)
            finally:
                for _, descriptors in self._queue:
                    _close_all(descriptors)
                self._queue.clear()
                self.unsent = 0
                self._on_lost(reason)

    def read_rest(self) -> None:
        """Receive what has arrived so far, from a process that has ended."""
        while True:
            try:
                messages = self.channel.receive()
            except (EOFError, OSError, ValueError):
                break
            for message, _ in messages:
                self._on_message(message)

    def close_in_child(self) -> None:
        """Close the copies of the descriptors in a forked process, without touching the loop, which belongs to the parent."""
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self.channel.close()

    def close(self) -> None:
        """Close the connection without calling `on_lost`."""
        self._on_lost = lambda reason: None
        try:
            self.lose(CLOSED)
        finally:
            self._close_channel()

    def _close_channel(self) -> None:
        """Close the socket even if closing the channel fails: else the other end would wait, and the descriptor would leak."""
        try:
            self.channel.close()
        except Exception:
            internal_errors.record("peer.close")
            self.channel.sock.close()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())

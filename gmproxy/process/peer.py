"""A connection over which messages go and come while nothing waits: to a worker, or to an operator at the control socket."""

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

#: The reason for `on_lost` where the other end has closed the connection.
CLOSED = "closed"

#: Bytes sent at once.
_CHUNK = 256 * 1024


class Peer:
    """
    Called from the loop:

    on_message(message)   for each message, a dict
    on_lost(reason)       once, when nothing can be received or sent any more; what has arrived can still be read by `read_rest`
    on_end(error)         if given: the last message was received. `error` is None at the end of the stream, else why what was received is not
                          a message. Messages can still be sent. If not given, the peer is lost then
    on_drained()          if given: all that had to wait has been sent

    max_unsent            bytes that may wait to be sent; a single message may always wait, whatever its length
    patience              seconds in which the other end may read nothing of what waits
    limit                 maximum length of a message received, bytes; None if there is none

    The methods do not wait: they may be called from a callback of the loop or a greenlet.
    """

    def __init__(
        self,
        loop: EventLoop,
        sock: socket.socket,
        on_message: Callable[[Message], Any],
        on_lost: Callable[[str], Any],
        *,
        max_unsent: int,
        patience: float,
        limit: int | None = None,
        on_end: Callable[[str | None], Any] | None = None,
        on_drained: Callable[[], Any] | None = None,
    ) -> None:
        sock.setblocking(False)
        self.channel = control_socket.Channel(sock, limit)
        self.is_lost = False
        self.unsent = 0  # bytes
        self._has_ended = False
        self._loop = loop
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_end = on_end
        self._on_drained = on_drained
        self._max_unsent = max_unsent
        self._patience = patience
        self._queue: deque[tuple[bytes, list[int]]] = deque()  # bytes, and descriptors that are passed with the first of them
        self._sent = 0
        self._timer: Any = None
        self._is_blocked = False  # the socket takes no more at the moment
        self.resume_reading()

    # -- receiving

    def resume_reading(self) -> None:
        """Receive messages, from now on or again."""
        if not self.is_lost and not self._has_ended:
            self._loop.add_reader(self.channel.sock, self._on_readable, lambda: self.lose("internal error"))

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`: what arrives waits in the kernel, and then at the other end."""
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
        """Send `message`, now or as soon as the socket takes it, and pass the sockets `passed` with it, which may be closed at once. To a peer
        that is lost nothing is sent."""
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
        """Give the other end `patience` seconds to read something."""
        if self._timer is None:
            sent = self._sent

            def check() -> None:
                self._timer = None
                self._send_queue()  # the kernel reports a unix socket as writable only when three quarters of it are free
                if self.is_lost or not self._queue:
                    return
                if self._sent == sent:
                    self.lose(f"read nothing for {self._patience:g} s")
                else:
                    self._start_timer()

            self._timer = self._loop.call_later(self._patience, check)

    # -- the end

    def lose(self, reason: str) -> None:
        """Give the peer up: nothing more is sent, and `on_lost` is called."""
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
        """Receive what has arrived until now; for one whose process has ended."""
        while True:
            try:
                messages = self.channel.receive()
            except (EOFError, OSError, ValueError):
                break
            for message, _ in messages:
                self._on_message(message)

    def close_in_child(self) -> None:
        """In a process that was forked: close the copies of descriptors that the parent goes on using. Its loop is not touched."""
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self.channel.close()

    def close(self) -> None:
        """Without a call of `on_lost`."""
        self._on_lost = lambda reason: None
        try:
            self.lose(CLOSED)
        finally:
            self._close_channel()

    def _close_channel(self) -> None:
        """Whatever fails, the connection is closed: the peer would wait, and the descriptor would be lost."""
        try:
            self.channel.close()
        except Exception:
            internal_errors.record("peer.close")
            self.channel.sock.close()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())

"""The other end of a channel as the master sees it, a worker or an operator: messages go and come without the master's loop ever waiting."""

import errno
import json
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gmproxy.system import control_socket
from gmproxy.system.select_loop import Loop

#: The reason for `lost` where the other end has closed the connection.
CLOSED = "closed"

#: Bytes sent at once.
_CHUNK = 256 * 1024


class Peer:
    """
    Called from the master's loop:

    heard(message)   for each message, a dict
    lost(reason)     once, when nothing more can be heard or sent; what has come can still be read by `read_rest`
    ended(error)     if given: nothing more is heard, as the other end has said all (error is None) or what came is no message; answers can
                     still be sent. If not given, this peer is lost
    sent()           if given: all that had to wait has been sent

    max_unsent       bytes that may wait to be sent; one message may always wait, however long it is
    patience         seconds in which the other end may take nothing of what waits
    """

    def __init__(self, loop: Loop, sock: socket.socket, heard: Callable[[dict], Any], lost: Callable[[str], Any], *,
                 max_unsent: int, patience: float, limit: int | None = None, ended: Callable[[str | None], Any] | None = None,
                 sent: Callable[[], Any] | None = None) -> None:
        sock.setblocking(False)
        self.channel = control_socket.Channel(sock, limit)
        self.is_lost = False
        self.unsent = 0
        self._has_ended = False
        self._loop = loop
        self._heard = heard
        self._lost = lost
        self._ended = ended
        self._all_sent = sent
        self._max_unsent = max_unsent
        self._patience = patience
        self._queue: deque[tuple[bytes, list[int]]] = deque()  # bytes, and descriptors that go with the first of them
        self._sent = 0
        self._timer: Any = None
        self._is_waiting = False  # for the socket to take more
        self.listen()

    # -- hearing

    def listen(self) -> None:
        """Hear what comes, from now on or again."""
        if not self.is_lost and not self._has_ended:
            self._loop.watch(self.channel.sock, self._read, lambda: self.lose("internal error"))

    def pause(self) -> None:
        """Hear nothing until `listen`: what comes waits in the kernel, and then at the other end."""
        self._loop.forget_reading(self.channel.sock)

    def _read(self) -> None:
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
            self._heard(message)

    def _lose_by(self, error: OSError) -> None:
        self.lose(CLOSED if error.errno in (errno.EPIPE, errno.ECONNRESET) else str(error))

    def _end(self, error: str | None) -> None:
        if self._ended is None:
            self.lose(error or CLOSED)
        else:
            self._has_ended = True
            self.pause()
            self._ended(error)

    # -- sending

    def send(self, message: dict, given: Sequence[socket.socket] = ()) -> None:
        """Send `message`, now or as soon as it is taken, with the sockets `given`, which may be closed at once. Never waits. To one who is
        lost nothing is sent."""
        if self.is_lost:
            return
        data = json.dumps({**message, "sockets": len(given)} if given else message).encode() + b"\n"
        if self.unsent and self.unsent + len(data) > self._max_unsent:
            self.lose("too much waits to be sent")
            return
        self._queue.append((data, [os.dup(sock.fileno()) for sock in given]))
        self.unsent += len(data)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._queue:
                data, descriptors = self._queue[0]
                with_it = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
                count = self.channel.sock.sendmsg([memoryview(data)[:_CHUNK]], with_it, socket.MSG_NOSIGNAL)
                _close_all(descriptors)
                self.unsent -= count
                self._sent += count
                if count < len(data):
                    self._queue[0] = data[count:], []
                else:
                    self._queue.popleft()
        except BlockingIOError:
            self._is_waiting = True
            self._loop.watch_writing(self.channel.sock, self._flush)
            self._wait()
            return
        except OSError as error:
            self._lose_by(error)
            return
        if self._is_waiting:
            self._is_waiting = False
            self._loop.forget_writing(self.channel.sock)
            self._loop.cancel(self._timer)
            self._timer = None
            if self._all_sent is not None:
                self._all_sent()

    def _wait(self) -> None:
        """Give the other end `patience` seconds to take something."""
        if self._timer is None:
            sent = self._sent

            def look() -> None:
                self._timer = None
                self._flush()  # the kernel reports a unix socket as writable only when three quarters of it are free
                if self.is_lost or not self._queue:
                    return
                if self._sent == sent:
                    self.lose("it takes nothing")
                else:
                    self._wait()

            self._timer = self._loop.after(self._patience, look)

    # -- the end

    def lose(self, reason: str) -> None:
        """Give the other end up: nothing more is sent, and `lost` is called."""
        if not self.is_lost:
            self.is_lost = True
            self._loop.forget(self.channel.sock)
            self._loop.cancel(self._timer)
            for _, descriptors in self._queue:
                _close_all(descriptors)
            self._queue.clear()
            self.unsent = 0
            self._lost(reason)

    def read_rest(self) -> None:
        """Hear what has come until now; for one whose process has ended."""
        while True:
            try:
                messages = self.channel.receive()
            except (EOFError, OSError, ValueError):
                break
            for message, _ in messages:
                self._heard(message)

    def abandon(self) -> None:
        """In a process that was forked: close the copies of what the other process goes on using, and leave its loop alone."""
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self.channel.close()

    def close(self) -> None:
        """Without a word to `lost`."""
        self._lost = lambda reason: None
        self.lose(CLOSED)
        self.channel.close()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())

"""Accepts clients, up to the limit."""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer

from gmproxy import internal_errors
from gmproxy.client.context import PoolContext
from gmproxy.system.descriptors import ACCEPTED_AT_ONCE, MAX_FAREWELLS
from gmproxy.transport import tcp
from gmproxy.transport.accept import Patient, close, say_and_close
from gmproxy.transport.tcp import SocketAddress

log = logging.getLogger("gmproxy")

TOO_MANY = b"SERVER_ERROR too many connections\r\n"

#: How long a client that was turned away may take to read why; seconds.
LAST_WORDS_TIMEOUT = 1

#: What such a client still sends is read and discarded: bytes at a time, and seconds in between in which other clients are served:
#: a recv that finds something does not wait, and would not end while the client goes on sending.
DRAINED_AT_ONCE = 64 * 1024
DRAIN_EVERY = 0.001

#: Clients accepted at once where several workers share a socket: few, so that the others get theirs.
ACCEPTED_BESIDE_OTHERS = 4

#: A worker that has more clients than the others lets these go first for so many seconds, and if none of them did, it takes so many
#: clients before it stands back again.
STAND_BACK = 0.005
TAKEN_AFTER_THAT = 16

#: A worker without room for more clients leaves them to a worker that has room, but takes them itself, to turn them away, if they were
#: not accepted after this many pauses of STAND_BACK: the other one may hang.
LEFT_TO_OTHERS = 100


class Farewells:
    """Clients that are turned away with an error, at most MAX_FAREWELLS at a time: each takes a descriptor until it has read that."""

    def __init__(self) -> None:
        self.count = 0

    def say(self, fd: int) -> None:
        """Tell the client at the socket `fd`, which becomes ours, that there are too many, and close it. Never waits: may be called from
        a loop callback."""
        if self.count >= MAX_FAREWELLS:
            say_and_close(fd, TOO_MANY)  # if the client has sent a request, it may lose these words
            return
        gevent.spawn(self._say, fd)
        self.count += 1

    def _say(self, fd: int) -> None:
        """Wait until the client has read it: to close while its request is unread would lose the words."""
        sock = None
        try:
            sock = gevent.socket.socket(fileno=fd)
            with gevent.Timeout(LAST_WORDS_TIMEOUT, False):
                sock.sendall(TOO_MANY)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(DRAINED_AT_ONCE):
                    gevent.sleep(DRAIN_EVERY)
        except OSError:
            pass
        except Exception:
            internal_errors.record("listener.say")
        finally:
            self.count -= 1
            if sock is None:
                close(fd)
            else:
                sock.close()


#: Of this process, whose descriptors they take.
FAREWELLS = Farewells()


class Listener:
    """The clients of the listening socket `sock`, which becomes ours; for `service` as soon as `serve` says for which."""

    def __init__(self, sock: socket.socket, worker_context: Any) -> None:
        self.service: PoolContext | None = None  # until `serve`
        self._is_tcp = sock.family != socket.AF_UNIX
        green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        green.setblocking(False)
        self._server = (
            _Server(green, self.let_in) if worker_context.client_counts is None else _FairServer(green, self.let_in, worker_context)
        )

    def serve(self, service: PoolContext) -> None:
        """Let the clients that come from now on in for `service`; those who are here stay with theirs."""
        self.service = service
        if self._is_tcp:
            tcp.tune(self._server.socket, service.options.tcpkeepalive)
        if not self._server.started:
            self._server.start()

    def stop(self) -> None:
        """Accept nobody any more; those who are here stay."""
        self._server.close()

    def let_in(self, fd: int, address: SocketAddress) -> None:
        """Called from the loop for each client: nothing in it may wait, and whatever raises costs this client alone."""
        service = self.service
        try:
            assert service is not None, "it accepts connections once it has a context"
            service.connections += 1
            if service.is_full():
                service.rejected += 1
                log.warning("client turned away client=%s limit=%d", tcp.host_and_port(address), service.max_clients)
                FAREWELLS.say(fd)
            else:
                service.clients.start_session(fd)
        except Exception:
            internal_errors.record("listener.let_in")
            close(fd)
        else:
            log.debug("client connected client=%s clients=%d", tcp.host_and_port(address), len(service.clients))


class _Server(Patient, StreamServer):
    """Has handle(descriptor, address) called from the loop. What is Python in a client's greenlet costs a page of memory for as long as it
    lives, for the frames of its functions: so the greenlet runs the compiled session alone."""

    max_accept = ACCEPTED_AT_ONCE
    refusal = TOO_MANY

    def accepted(self, fd: int, address: SocketAddress) -> tuple[int, SocketAddress]:
        """To make a socket object of it, and to tune that, were eleven system calls."""
        os.set_blocking(fd, False)
        return fd, address

    def do_handle(self, fd: int, address: SocketAddress) -> None:
        """Called from the loop. Never raises: what fails costs this connection."""
        try:
            self.loop.run_callback(
                self._handle, fd, address
            )  # when all else that has happened is seen: a client that left has freed a place
        except Exception:
            internal_errors.record("listener.do_handle")
            close(fd)


class _FairServer(_Server):
    """Shares its listening socket with other workers: whoever wakes first accepts, but not much more than the others."""

    max_accept = ACCEPTED_BESIDE_OTHERS

    def __init__(self, sock: socket.socket, handle: Callable[..., None], worker_context: Any) -> None:
        super().__init__(sock, handle)
        self._worker_context = worker_context
        self._taken = TAKEN_AFTER_THAT  # clients since we stood back
        self._left = 0  # pauses in a row because we have no room
        self._standing_back: Any = None  # a timer

    def full(self) -> bool:
        """Asked before each client. True: let the others have it, for a moment. Never raises: gevent would never accept again."""
        try:
            return self._lets_others_go_first()
        except Exception:
            internal_errors.record("listener.full")
            return False

    def _lets_others_go_first(self) -> bool:
        if self._worker_context.is_nearly_full(ACCEPTED_BESIDE_OTHERS):
            if self._left < LEFT_TO_OTHERS and self._worker_context.others_have_room(ACCEPTED_BESIDE_OTHERS):
                self._left += 1
                return self._stand_back()
        self._left = 0
        self._taken += 1
        if self._taken <= TAKEN_AFTER_THAT or not self._worker_context.client_counts.has_most_clients(self._worker_context.number):
            return False
        self._taken = 0
        return self._stand_back()

    def _stand_back(self) -> bool:
        self._standing_back = self.loop.timer(STAND_BACK)
        self._standing_back.start(self._start_accepting_if_started)
        return True

"""Accepts clients, up to the limit."""

import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer

from gmproxy import internal_errors
from gmproxy.client.accept_share import AcceptShare
from gmproxy.client.context import PoolContext
from gmproxy.client.sessions import Sessions
from gmproxy.system.descriptors import ACCEPTED_AT_ONCE, MAX_FAREWELLS
from gmproxy.transport import tcp
from gmproxy.transport.accept import EXHAUSTED, AcceptRetry, close, send_and_close

log = logging.getLogger("gmproxy")

TOO_MANY = b"SERVER_ERROR too many connections\r\n"

#: How long a client that was turned away may take to read why; seconds.
LAST_WORDS_TIMEOUT = 1

#: What such a client still sends is read and discarded: bytes at a time, and seconds in between in which other clients are served:
#: a recv that finds something does not wait, and would not end while the client goes on sending.
DRAINED_AT_ONCE = 64 * 1024
DRAIN_EVERY = 0.001


class Farewells:
    """Clients that are turned away with an error, at most MAX_FAREWELLS at a time: each takes a descriptor until it has read that."""

    def __init__(self) -> None:
        self.count = 0

    def say(self, fd: int) -> None:
        """Tell the client at the socket `fd`, which becomes ours, that there are too many, and close it. Never waits: may be called from
        a loop callback."""
        if self.count >= MAX_FAREWELLS:
            send_and_close(fd, TOO_MANY)  # if the client has sent a request, it may lose these words
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
            _Server(green, self.let_in) if worker_context.client_counts is None else _SharingServer(green, self.let_in, worker_context)
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

    def let_in(self, listening: int, most: int) -> int:
        """Accept at most `most` of those who wait at the socket `listening`, and turn away those for whom there is no room. Returns how many
        were let in. Called from the loop. Raises OSError if one cannot be accepted."""
        service = self.service
        assert service is not None, "it accepts connections once it has a context"
        try:
            return self._let_in(service, listening, most)
        except OSError as error:
            service.accept_failures += error.errno in EXHAUSTED
            raise

    def _let_in(self, service: PoolContext, listening: int, most: int) -> int:
        clients = service.clients
        room = min(service.room(), most)
        if not room:
            self._turn_away(service, listening, most)
            return 0
        if log.isEnabledFor(logging.DEBUG):
            let_in = self._let_in_and_log(clients, listening, room)
        else:
            let_in = clients.accept(listening, room)
        clients.publish_count()
        return let_in  # for the others there may be room in the next turn of the loop

    @staticmethod
    def _let_in_and_log(clients: Sessions, listening: int, most: int) -> int:
        """As Sessions.accept."""
        for let_in in range(most):
            accepted = tcp.accept(listening)
            if accepted is None:
                return let_in
            fd, address = accepted
            clients.add(fd)
            log.debug("client connected client=%s clients=%d", tcp.host_and_port(address), len(clients))
        return most

    @staticmethod
    def _turn_away(service: PoolContext, listening: int, most: int) -> None:
        """Tell at most `most` of those who wait that there are too many."""
        for _ in range(most):
            accepted = tcp.accept(listening)
            if accepted is None:
                return
            fd, address = accepted
            try:
                service.connections += 1
                service.rejected += 1
                log.warning("client turned away client=%s limit=%d", tcp.host_and_port(address), service.max_clients)
                FAREWELLS.say(fd)
            except Exception:
                internal_errors.record("listener.turn_away")
                close(fd)


class _Server(AcceptRetry, StreamServer):
    """Has handle(descriptor of the listening socket, most) called from the loop, which accepts. As gevent's servers have it, with a call for
    each connection, an address, an object and a greenlet, a client that comes for one request costs twice as much (docs/decisions.md)."""

    max_accept = ACCEPTED_AT_ONCE
    refusal = TOO_MANY

    _is_accept_due = False

    def do_read(self) -> None:
        """Called from the loop, where gevent has connections from. Clients are accepted when all else that has happened is seen: one that
        left has freed a place."""
        if not self._is_accept_due:
            self._is_accept_due = True
            self.loop.run_callback(self.accept_clients)

    def accept_clients(self) -> None:
        """Called from the loop. Never raises."""
        self._is_accept_due = False
        try:
            if self._watcher is not None:  # else it was stopped since
                self.accept_some()
        except OSError as error:
            self.on_accept_error(error)
        except Exception:
            internal_errors.record("listener.accept")
            self.pause()  # they wait, and would be reported again at once

    def accept_some(self) -> int:
        """Returns how many clients were let in."""
        return self._handle(self.socket.fileno(), self.max_accept)


class _SharingServer(_Server):
    """Shares its listening socket with other workers."""

    def __init__(self, sock: socket.socket, handle: "Callable[[int, int], int]", worker_context: Any) -> None:
        super().__init__(sock, handle)
        self._share = AcceptShare(worker_context)
        self._pause_timer: Any = None

    def full(self) -> bool:
        """Asked before each `do_read`. True: let the others have them, for a moment. Never raises: gevent would never accept again."""
        try:
            seconds = self._share.pause()
            if seconds:
                self._pause_timer = self.loop.timer(seconds)
                self._pause_timer.start(self.accept_again)
            return seconds > 0
        except Exception:
            internal_errors.record("listener.full")
            return False

    def accept_again(self) -> None:
        """Called from the loop: the pause is over. Never raises."""
        try:
            self._share.resume()
        except Exception:
            internal_errors.record("listener.accept_again")
        self._start_accepting_if_started()

    def accept_some(self) -> int:
        self.max_accept = self._share.max_accept
        let_in = super().accept_some()
        if let_in:
            self._share.accepted(let_in)
        return let_in

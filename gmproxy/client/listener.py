"""Accepts clients, up to the maximum number, and rejects those above it."""

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
from gmproxy.system.descriptors import ACCEPTED_AT_ONCE, MAX_REJECTIONS
from gmproxy.transport import tcp
from gmproxy.transport.accept import EXHAUSTED, AcceptRetry, close, send_and_close

log = logging.getLogger("gmproxy")

TOO_MANY = b"SERVER_ERROR too many connections\r\n"

#: Seconds within which a rejected client must read the error line.
REJECTION_TIMEOUT = 1

#: What such a client sends meanwhile is discarded: bytes read at a time, and seconds between the reads. Without these a client that keeps sending
#: would stop all others: a recv that finds bytes does not switch.
DISCARDED_AT_ONCE = 64 * 1024
DISCARD_INTERVAL = 0.001


class Rejections:
    """Clients that are rejected with an error line, at most MAX_REJECTIONS at a time: each takes a file descriptor until it has read the line."""

    def __init__(self) -> None:
        self.count = 0

    def reject(self, fd: int) -> None:
        """Send TOO_MANY to the client at the socket `fd`, and close it. Loop callback or greenlet."""
        if self.count >= MAX_REJECTIONS:
            send_and_close(fd, TOO_MANY)  # a client that has sent a request may not receive the line
            return
        gevent.spawn(self._reject, fd)
        self.count += 1

    def _reject(self, fd: int) -> None:
        """Close the socket after the client has read the line: a close while its request is unread would reset the connection and lose the line. In
        a greenlet of its own: blocks for up to REJECTION_TIMEOUT seconds."""
        sock = None
        try:
            sock = gevent.socket.socket(fileno=fd)
            with gevent.Timeout(REJECTION_TIMEOUT, False):
                sock.sendall(TOO_MANY)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(DISCARDED_AT_ONCE):
                    gevent.sleep(DISCARD_INTERVAL)
        except OSError:
            pass
        except Exception:
            internal_errors.record("listener.reject")
        finally:
            self.count -= 1
            if sock is None:
                close(fd)
            else:
                sock.close()


#: Those of this process.
REJECTIONS = Rejections()


class Listener:
    """The listening socket `sock`, which is owned by this object. Methods: loop callback or greenlet; none blocks.

    service   the PoolContext whose clients are accepted; None before `serve`
    """

    def __init__(self, sock: socket.socket, worker_context: Any) -> None:
        self.service: PoolContext | None = None
        self._is_tcp = sock.family != socket.AF_UNIX
        green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        green.setblocking(False)
        self._server = (
            _Server(green, self.admit) if worker_context.client_counts is None else _SharingServer(green, self.admit, worker_context)
        )

    def serve(self, service: PoolContext) -> None:
        """Accept clients for `service` from now on. Those that are connected stay with theirs."""
        self.service = service
        if self._is_tcp:
            tcp.tune(self._server.socket, service.options.tcpkeepalive)
        if not self._server.started:
            self._server.start()

    def stop(self) -> None:
        """Accept no more clients. Those that are connected stay."""
        self._server.close()

    def admit(self, listening: int, most: int) -> int:
        """Accept up to `most` of the clients that wait at the socket `listening`, and reject them if there is no room. Returns how many were
        admitted. Loop callback only. Raises OSError if a client cannot be accepted."""
        service = self.service
        assert service is not None, "clients are accepted after `serve`"
        try:
            return self._admit(service, listening, most)
        except OSError as error:
            service.accept_failures += error.errno in EXHAUSTED
            raise

    def _admit(self, service: PoolContext, listening: int, most: int) -> int:
        clients = service.clients
        room = min(service.room(), most)
        if not room:
            self._reject(service, listening, most)
            return 0
        if log.isEnabledFor(logging.DEBUG):
            admitted = self._admit_and_log(clients, listening, room)
        else:
            admitted = clients.accept(listening, room)
        clients.publish_count()
        return admitted  # the others may have room in the next turn of the loop

    @staticmethod
    def _admit_and_log(clients: Sessions, listening: int, most: int) -> int:
        """As Sessions.accept."""
        for admitted in range(most):
            accepted = tcp.accept(listening)
            if accepted is None:
                return admitted
            fd, address = accepted
            clients.add(fd)
            log.debug("client connected client=%s clients=%d", tcp.host_and_port(address), len(clients))
        return most

    @staticmethod
    def _reject(service: PoolContext, listening: int, most: int) -> None:
        """Reject up to `most` of the clients that wait."""
        for _ in range(most):
            accepted = tcp.accept(listening)
            if accepted is None:
                return
            fd, address = accepted
            try:
                service.connections += 1
                service.rejected += 1
                log.warning("client turned away client=%s limit=%d", tcp.host_and_port(address), service.max_clients)
                REJECTIONS.reject(fd)
            except Exception:
                internal_errors.record("listener.reject")
                close(fd)


class _Server(AcceptRetry, StreamServer):
    """Calls handle(file descriptor of the listening socket, most) in the loop, which accepts. gevent's own server makes a call, an address, an object
    and a greenlet for each connection: then a client with one request costs twice as much (docs/decisions.md)."""

    max_accept = ACCEPTED_AT_ONCE
    refusal = TOO_MANY

    _is_accept_due = False

    def do_read(self) -> None:
        """The socket is readable. Clients are accepted after all other events of this turn of the loop: some may be disconnects, which make room.
        Loop callback only."""
        if not self._is_accept_due:
            self._is_accept_due = True
            self.loop.run_callback(self.accept_clients)

    def accept_clients(self) -> None:
        """Loop callback only. Never raises."""
        self._is_accept_due = False
        try:
            if self._watcher is not None:  # else it was stopped since
                self.accept_some()
        except OSError as error:
            self.on_accept_error(error)
        except Exception:
            internal_errors.record("listener.accept")
            self.pause()  # else the loop would call this again at once, without end

    def accept_some(self) -> int:
        """Returns how many clients were admitted."""
        admitted: int = self._handle(self.socket.fileno(), self.max_accept)
        return admitted


class _SharingServer(_Server):
    """Shares its listening socket with other workers."""

    def __init__(self, sock: socket.socket, handle: "Callable[[int, int], int]", worker_context: Any) -> None:
        super().__init__(sock, handle)
        self._share = AcceptShare(worker_context)
        self._pause_timer: Any = None

    def full(self) -> bool:
        """Called by gevent before each `do_read`. True: do not accept until `accept_again`. Never raises: gevent would never accept again."""
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
        """The pause is over. Loop callback only. Never raises."""
        try:
            self._share.resume()
        except Exception:
            internal_errors.record("listener.accept_again")
        self._start_accepting_if_started()

    def accept_some(self) -> int:
        self.max_accept = self._share.max_accept
        admitted = super().accept_some()
        if admitted:
            self._share.accepted(admitted)
        return admitted

"""Accepts clients: a greenlet and a session for each, up to the limit."""

import logging
import socket

import gevent
from gevent.server import StreamServer

from gmproxy import net
from gmproxy.accel import pick

new_session = pick("session").Session

log = logging.getLogger("gmproxy")

TOO_MANY = b"SERVER_ERROR too many connections\r\n"

#: So many clients share a link to each server before the next ones get a second. Fewer links gather more requests in one send;
#: more let a large value pass beside the small ones.
CLIENTS_PER_LANE = 512

#: How long a client that was turned away may take to read why; seconds.
LAST_WORDS_TIMEOUT = 1


class Listener:
    """The clients of one listening socket, for `service`."""

    def __init__(self, service, sock):
        self.service = service
        self._is_tcp = sock.family != socket.AF_UNIX
        green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._server = StreamServer(green, self._serve)

    def start(self):
        self._server.start()

    def stop(self):
        """Accept nobody any more; those who are here stay."""
        self._server.close()

    def _serve(self, sock, address):
        service = self.service
        service.connections += 1
        if len(service.sessions) >= service.max_clients:
            service.rejected += 1
            log.debug("client turned away client=%s", address)
            self._turn_away(sock)
            return
        if self._is_tcp:
            net.tune(sock, service.options.tcpkeepalive)
        session = new_session(service, sock, len(service.sessions) // CLIENTS_PER_LANE)
        service.sessions.add(session)
        log.debug("client connected client=%s clients=%d", address, len(service.sessions))
        try:
            session.run()
        except Exception:
            log.exception("session failed client=%s", address)
        finally:
            service.sessions.discard(session)
            log.debug("client left client=%s", address)

    @staticmethod
    def _turn_away(sock):
        """Say why, and wait until the client has read it: to close while its request is unread would lose the words."""
        try:
            with gevent.Timeout(LAST_WORDS_TIMEOUT, False):
                sock.sendall(TOO_MANY)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(4096):
                    pass
        except OSError:
            pass

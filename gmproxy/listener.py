"""Accepts clients, up to the limit."""

import logging
import os
import socket

import gevent
from gevent.server import StreamServer

from gmproxy import net

log = logging.getLogger("gmproxy")

TOO_MANY = b"SERVER_ERROR too many connections\r\n"

#: How long a client that was turned away may take to read why; seconds.
LAST_WORDS_TIMEOUT = 1


#: Clients accepted at once where several workers share a socket: few, so that the others get theirs.
ACCEPTED_AT_ONCE = 4

#: A worker that has more clients than the others lets these go first for so many seconds, and if none of them did, it takes so many
#: clients before it stands back again.
STAND_BACK = 0.005
TAKEN_AFTER_THAT = 16


class Listener:
    """The clients of the listening socket `sock`, which becomes ours; for `service` as soon as `serve` says for which."""

    def __init__(self, sock, share):
        self.service = None
        self._is_tcp = sock.family != socket.AF_UNIX
        green = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        green.setblocking(False)
        self._server = _Server(green, self.let_in) if share.board is None else _FairServer(green, self.let_in, share)

    def serve(self, service):
        """Let the clients that come from now on in for `service`; those who are here stay with theirs."""
        self.service = service
        if self._is_tcp:
            net.tune(self._server.socket, service.options.tcpkeepalive)
        if not self._server.started:
            self._server.start()

    def stop(self):
        """Accept nobody any more; those who are here stay."""
        self._server.close()

    def let_in(self, fd, address):
        """Called from the loop for each client: nothing in it may wait."""
        service = self.service
        service.connections += 1
        if service.is_full():
            service.rejected += 1
            log.warning("client turned away client=%s limit=%d", net.host_and_port(address), service.max_clients)
            gevent.spawn(self._turn_away, fd)
            return
        service.clients.seat(fd)
        log.debug("client connected client=%s clients=%d", net.host_and_port(address), len(service.clients))

    @staticmethod
    def _turn_away(fd):
        """Say why, and wait until the client has read it: to close while its request is unread would lose the words."""
        with gevent.socket.socket(fileno=fd) as sock:
            try:
                with gevent.Timeout(LAST_WORDS_TIMEOUT, False):
                    sock.sendall(TOO_MANY)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(4096):
                        pass
            except OSError:
                pass


class _Server(StreamServer):
    """Has handle(descriptor, address) called from the loop. What is Python in a client's greenlet costs a page of memory for as long as it
    lives, for the frames of its functions: so the greenlet runs the compiled session alone."""

    def do_read(self):
        """(descriptor, address) of the next client, or None. To make a socket object of it, and to tune that, were eleven system calls."""
        try:
            fd, address = self.socket._accept()
        except BlockingIOError:
            return None
        os.set_blocking(fd, False)
        return fd, address

    def do_handle(self, *args):
        self.loop.run_callback(self._handle, *args)  # when all else that has happened is seen: who left makes room


class _FairServer(_Server):
    """Shares its listening socket with other workers: whoever wakes first accepts, but not much more than the others."""

    max_accept = ACCEPTED_AT_ONCE

    def __init__(self, sock, handle, share):
        super().__init__(sock, handle)
        self._share = share
        self._taken = TAKEN_AFTER_THAT  # clients since we stood back
        self._standing_back = None

    def full(self):
        """Asked before each client. True: let the others have it, for a moment."""
        self._taken += 1
        if self._taken <= TAKEN_AFTER_THAT or not self._share.board.is_ahead(self._share.number):
            return False
        self._taken = 0
        self._standing_back = self.loop.timer(STAND_BACK)
        self._standing_back.start(self._start_accepting_if_started)
        return True

"""A relay between gmproxy and a server that acts like a bad network.

    relay = Relay(server)            # connect to relay.address; it connects to the server
    relay.hold()                     # no bytes pass
    relay.pass_on()                  # all bytes pass again

Its methods affect the open connections and new ones:

    pass_on     all bytes pass, as in a good network
    hold        no bytes pass in either direction, but none are lost: they arrive after pass_on()
    drop        all bytes are discarded. pass_on() cuts connections that have lost bytes
    delay       each piece is delayed by the given number of seconds
    truncate    on each connection the given number of bytes of replies passes, then it is cut
    corrupt     a function changes each piece of a reply
    cut         all connections are reset
    refuse      the same, and new connections are refused until pass_on()

It runs in threads of the test, two for each connection.
"""

import socket
import threading
import time
from contextlib import suppress

from support.network import LINGER_RESET
from support.servers import HOST, free_port
from support.timing import PATIENCE

CHUNK = 64 * 1024

#: A connection that is held for longer is cut, seconds.
LONGEST_HOLD = 60 * PATIENCE


class Relay:
    """
    address   the address of the relay, to which the proxy connects
    server    an object with `host` and `port`: the relay connects to it for each connection of the proxy
    """

    def __init__(self, server):
        self.server = server
        self.host = HOST
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self._lock = threading.Lock()
        self._connections = set()
        self._listener = None
        self._flowing = threading.Event()
        self._treat = _untouched
        self.pass_on()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.refuse()
        self._flowing.set()

    @property
    def connections(self):
        """The number of open connections of the proxy."""
        return len(self._all())

    # -- for the tests

    def pass_on(self):
        self._treat = _untouched
        for connection in self._all():
            if connection.has_gap:
                connection.cut()
        self._flowing.set()
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=1024)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def hold(self):
        self._flowing.clear()

    def drop(self):
        def forget(connection, chunk, is_answer):
            connection.has_gap = True
            return b""

        self._treat = forget

    def delay(self, seconds):
        def wait(connection, chunk, is_answer):
            time.sleep(seconds)
            return chunk

        self._treat = wait

    def truncate(self, count):
        def let_through(connection, chunk, is_answer):
            if not is_answer:
                return chunk
            connection.answered += len(chunk)
            if connection.answered < count:
                return chunk
            raise _Cut(chunk[: len(chunk) - (connection.answered - count)])

        for connection in self._all():
            connection.answered = 0
        self._treat = let_through

    def corrupt(self, damage):
        """Send damage(chunk) in place of each `chunk` of replies. Each connection calls `damage` in its own thread."""
        self._treat = lambda connection, chunk, is_answer: damage(chunk) if is_answer else chunk

    def cut(self):
        for connection in self._all():
            connection.cut()

    def refuse(self):
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.cut()

    # -- for the connections

    def treat(self, connection, chunk, is_answer):
        """The bytes to forward for `chunk`. Waits during a hold(); raises _Cut with the last bytes."""
        if not self._flowing.wait(LONGEST_HOLD):
            raise _Cut(b"")
        return self._treat(connection, chunk, is_answer)

    def forget(self, connection):
        with self._lock:
            self._connections.discard(connection)

    def _all(self):
        with self._lock:
            return list(self._connections)

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = _Connection(self, sock)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=connection.run, daemon=True).start()


def _untouched(connection, chunk, is_answer):
    return chunk


class _Cut(Exception):
    """Forward `last`, then cut the connection."""

    def __init__(self, last):
        self.last = last


class _Connection:
    """A connection of the proxy and its connection to the server."""

    def __init__(self, relay, client):
        self._relay = relay
        self._client = client
        self._server = None
        self._running = 2  # threads; the last one closes the sockets
        self._lock = threading.Lock()
        self._is_cut = False
        self.has_gap = False  # bytes were discarded
        self.answered = 0  # bytes of replies; see Relay.truncate

    def run(self):
        try:
            self._relay.treat(self, b"", False)  # hold() also delays new connections
            self._server = socket.create_connection((self._relay.server.host, self._relay.server.port), PATIENCE)
            self._server.settimeout(None)
            for sock in (self._client, self._server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, _Cut):
            self.cut()
            self._running = 1
            self._ended()
            return
        if self._is_cut:  # while the relay connected to the server
            self.cut()
        threading.Thread(target=self._carry, args=(self._server, self._client, True), daemon=True).start()
        self._carry(self._client, self._server, False)

    def cut(self):
        """Reset both ends."""
        self._is_cut = True
        for sock in (self._client, self._server):
            if sock is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                    sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads; close() sends the reset

    def _carry(self, source, target, is_answer):
        try:
            while chunk := source.recv(CHUNK):
                arrives = self._relay.treat(self, chunk, is_answer)
                if source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise ConnectionResetError  # a reset discards bytes that are not delivered yet
                target.sendall(arrives)
            if not self._is_cut:
                self._relay.treat(self, b"", is_answer)
                target.shutdown(socket.SHUT_WR)
        except _Cut as cut:
            with suppress(OSError):
                target.sendall(cut.last)
            self.finish()
        except OSError:
            self.cut()
        finally:
            self._ended()

    def finish(self):
        """End both connections after the bytes that were already sent."""
        self._is_cut = True
        for sock in (self._client, self._server):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _ended(self):
        with self._lock:
            self._running -= 1
            if self._running:
                return
        self._client.close()
        if self._server is not None:
            self._server.close()
        self._relay.forget(self)

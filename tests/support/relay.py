"""A relay between gmproxy and a server, that does to the bytes what a bad network does.

    relay = Relay(server)            # connect to relay.address; it connects to the server
    relay.hold()                     # from now on nothing passes
    relay.pass_on()                  # a good network again

What it can do to the connections that it carries, and to new ones:

    pass_on     as a good network
    hold        nothing passes either way, but nothing is lost: all of it arrives after pass_on()
    drop        all bytes are discarded. A stream with a gap cannot go on: such connections are cut at pass_on()
    delay       everything arrives the given number of seconds late
    truncate    the given number of bytes of replies arrive, on each connection, then it is cut
    corrupt     each piece of a reply is passed to a function, and its result sent on
    cut         all connections are reset now
    refuse      the same, and no new ones are accepted until pass_on()

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

#: Seconds; a connection that is held for longer is cut.
LONGEST_HOLD = 60 * PATIENCE


class Relay:
    """
    address   where the proxy connects to
    server    an object with `host` and `port`: where the relay connects to, each time anew
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
        """The number of connections that it carries."""
        return len(self._all())

    # -- what to do

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
        """`damage(chunk)` is what arrives in place of `chunk`; it may come from another thread for each connection."""
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

    # -- what a connection needs of us

    def treat(self, connection, chunk, is_answer):
        """What is to be sent on of `chunk`. Waits during a hold(); raises _Cut with the last bytes."""
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
    """Send `last` on and cut the connection."""

    def __init__(self, last):
        self.last = last


class _Connection:
    """One connection of the proxy and the one to the server that belongs to it."""

    def __init__(self, relay, client):
        self._relay = relay
        self._client = client
        self._server = None
        self._running = 2  # threads; the last one closes
        self._lock = threading.Lock()
        self._is_cut = False
        self.has_gap = False  # bytes were forgotten
        self.answered = 0  # bytes, see Relay.truncate

    def run(self):
        try:
            self._relay.treat(self, b"", False)  # a hold() lets no connection through either
            self._server = socket.create_connection((self._relay.server.host, self._relay.server.port), PATIENCE)
            self._server.settimeout(None)
            for sock in (self._client, self._server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, _Cut):
            self.cut()
            self._running = 1
            self._ended()
            return
        if self._is_cut:  # while we connected
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
                    sock.shutdown(socket.SHUT_RD)  # wakes the thread that reads; the reset comes with the close

    def _carry(self, source, target, is_answer):
        try:
            while chunk := source.recv(CHUNK):
                arrives = self._relay.treat(self, chunk, is_answer)
                if source.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise ConnectionResetError  # what a peer had not delivered when it reset the connection, it never will
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
        """The last bytes may arrive, nothing after them."""
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

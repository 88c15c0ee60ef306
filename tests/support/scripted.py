"""A server that plays a script. It does what a real memcached cannot be made to do: stop in the middle of a reply, reply garbage, hang.

A script is a list of steps. Each connection plays one script, in the order in which they are made:

    ScriptedBackend(
        [expect(b"get a\\r\\n"), say(b"VALUE a 0 1\\r\\n"), close()],
        [expect(b"get b\\r\\n"), b"END\\r\\n"],
    )

Bytes in a script are sent. After its last step a connection stays open, and nothing more may arrive on it. Instead of scripts, a function can
receive each complete request and return bytes or steps:

    ScriptedBackend(answer=lambda request: b"END\\r\\n")

It runs in threads of the test. It records the bytes that it receives in `saw`, and differences from the script in `troubles`.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from support import network
from support.servers import HOST, free_port
from support.timing import PATIENCE, eventually

RECV_SIZE = 64 * 1024
STORAGE = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")

#: The first command of a proxy on a connection to a backup (gmproxy/protocol/internal_commands.py).
COPIES_TO_US = b"stats gmproxy-backup\r\n"

#: Seconds between two bytes of a `drip`: otherwise the kernel joins them.
DRIP_INTERVAL = 0.0005


class Step(NamedTuple):
    """`act(connection)` executes the step. `listens`: True if it first receives bytes from the proxy; `awaits`: these bytes, if they are known."""

    act: Callable
    listens: bool = False
    awaits: bytes = b""


def expect(data):
    """Exactly `data` must arrive next."""
    return Step(lambda connection: connection.expect(data), listens=True, awaits=data)


def say(data):
    return Step(lambda connection: connection.say(data))


def drip(data):
    """Send each byte of `data` in its own packet."""
    return Step(lambda connection: connection.drip(data))


def pause(seconds):
    return Step(lambda connection: time.sleep(seconds))


def wait_for(event):
    """Continue when the test sets this threading.Event."""
    return Step(lambda connection: event.wait(PATIENCE) or connection.trouble("the test never said to go on"))


def close():
    return Step(lambda connection: connection.close())


def reset():
    """Reset the connection: the peer receives RST."""
    return Step(lambda connection: connection.reset())


def hang():
    """Read all that arrives and never reply."""
    return Step(lambda connection: connection.hang(), listens=True)


def steps_of(said):
    """`said` as a list of steps: bytes, one step, or a mixed list of these."""
    if isinstance(said, (bytes, Step)):
        said = [said]
    return [say(part) if isinstance(part, bytes) else part for part in said if part]


def refused_port():
    """A port on which nothing listens."""
    return free_port()


class ScriptedBackend:
    """
    saw        a bytearray of received bytes for each connection, in the order in which they were made
    troubles   differences from the script
    identity   (pid, uptime) in the reply to `stats` as the first command of a connection: it identifies the server to the proxy
    forgets    False: no reply to delete and flush_all as the first command of a connection
    forgot     the requests on connections that begin with delete or flush_all, if no script waits for these

    Connections for health checks and recoveries (stats, version, delete or flush_all) play no script and are not in `saw`.
    """

    def __init__(self, *scripts, answer=None, identity=(4242, 1_000_000), forgets=True):
        self.host = HOST
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.identity = identity
        self.forgets = forgets
        self.saw = []
        self.troubles = []
        self.forgot = []
        self._answer = answer
        self._scripts = [steps_of(script) for script in scripts]
        self._lock = threading.Lock()
        self._connections = []
        self._listener = None
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.refuse()

    @property
    def is_listening(self):
        return self._listener is not None

    def listen(self):
        """Accept connections, also after `refuse`."""
        self._listener = socket.create_server((self.host, self.port), backlog=1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self):
        """Close all connections and refuse new ones, as if the process had been killed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.drop()

    def drop(self):
        """Close all connections."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def play(self, *scripts):
        """Close all connections, clear the records, and play these scripts on the next connections."""
        self.drop()
        with self._lock:
            self._scripts = [steps_of(script) for script in scripts]
            self.saw = []
            self.troubles = []
            self.forgot = []

    def check(self):
        """Assert that all scripts were played without differences. Waits for requests that have not arrived yet, such as a copy for a backup."""
        eventually(lambda: self.troubles or not self._scripts, what="all scripts are played")
        assert not self.troubles, "\n".join(self.troubles)

    def wait_until_seen(self, data):
        """Wait until `data` has arrived on one of the connections."""
        eventually(lambda: any(data in seen for seen in self.saw), what=f"the backend sees {data!r}")

    # -- for the connections

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = _Connection(self, sock)
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def speaks_first(self):
        """True if the script of the next connection sends bytes or closes it before it receives anything."""
        with self._lock:
            return bool(self._scripts) and bool(self._scripts[0]) and not self._scripts[0][0].listens

    def is_awaited(self, first):
        """True if the script of the next connection first waits for bytes that begin with `first`."""
        with self._lock:
            return bool(self._scripts) and bool(self._scripts[0]) and self._scripts[0][0].awaits.startswith(first)

    def begin_conversation(self):
        """(its steps or None, the bytearray for received bytes) of a new connection."""
        with self._lock:
            seen = bytearray()
            self.saw.append(seen)
            if self._answer is not None:
                return [Step(lambda connection: connection.answer_each(self._answer))], seen
            return self._scripts.pop(0) if self._scripts else None, seen


class _Connection:
    """One connection, in its own thread."""

    def __init__(self, backend, sock):
        self._backend = backend
        self._socket = sock
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self._seen = bytearray()
        self._ended = False  # by the script or the test

    def run(self):
        try:
            self._converse()
        except OSError as error:
            if not self._ended:
                self.trouble(str(error))
        finally:
            self.close()
            self._socket.close()

    def _converse(self):
        if not self._backend.speaks_first():
            first = self._first_bytes()
            if first == b"stats\r" and self._backend.identity:
                self._identify()
                return
            if first in (b"versio", b"delete", b"flush_") and not self._backend.is_awaited(first):
                self.answer_each(self._obey)
                return
            if not first:
                return  # the proxy opened it in advance and never used it
        steps, self._seen = self._backend.begin_conversation()
        if steps is None:
            self._receive()
            self.trouble(f"a connection without a script asked {bytes(self._seen)!r}")
            return
        for step in steps:
            step.act(self)
            if self._ended:
                return
        if self._unread or self._receive():
            self.trouble(f"after the script came {self._unread!r}")

    def _first_bytes(self):
        """The first bytes from the proxy, which stay unread. COPIES_TO_US before them gets the reply of memcached, without a script."""
        first = self._socket.recv(6, socket.MSG_PEEK)
        if first == b"stats " and not self._backend.is_awaited(first):
            self._socket.recv(len(COPIES_TO_US), socket.MSG_WAITALL)
            self.say(b"ERROR\r\n")
            return self._first_bytes()
        return first

    def _identify(self):
        self._socket.recv(RECV_SIZE)
        pid, uptime = self._backend.identity
        self.say(b"STAT pid %d\r\nSTAT uptime %d\r\nEND\r\n" % (pid, uptime))

    def _obey(self, request):
        """The reply of a memcached that has no items."""
        if request.startswith(b"version"):
            return b"VERSION 1.6.18\r\n"
        if not self._backend.forgets:
            return hang()
        self._backend.forgot.append(request)
        return b"NOT_FOUND\r\n" if request.startswith(b"delete") else b"OK\r\n"

    def _receive(self):
        """Receive more bytes. Returns False at the end of the connection, also after a reset: a proxy that is killed resets its connections."""
        try:
            chunk = self._socket.recv(RECV_SIZE)
        except ConnectionResetError:
            return False
        self._seen += chunk
        self._unread += chunk
        return bool(chunk)

    def _take(self, count):
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def trouble(self, words):
        self._backend.troubles.append(words)
        self.close()

    # -- steps

    def expect(self, data):
        while len(self._unread) < len(data) and data.startswith(self._unread):
            if not self._receive():
                break
        got = self._take(len(data))
        if got != data and not self._ended:
            self.trouble(f"expected {data!r}, saw {got!r}")

    def say(self, data):
        self._socket.sendall(data)

    def drip(self, data):
        for offset in range(len(data)):
            self.say(data[offset : offset + 1])
            time.sleep(DRIP_INTERVAL)

    def hang(self):
        while self._receive():
            pass
        self._ended = True

    def close(self):
        self._ended = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self):
        self._ended = True
        network.reset(self._socket)

    def answer_each(self, answer):
        """Read requests until the connection ends, and reply to each with what `answer(request)` returns."""
        while not self._ended:
            request = self._read_request()
            if request is None:
                self._ended = True
                return
            for step in steps_of(answer(request) or []):
                step.act(self)

    def _read_request(self):
        """A command line with its data block if it has one; None if the connection has ended."""
        while b"\r\n" not in self._unread:
            if not self._receive():
                return None
        size = self._unread.index(b"\r\n") + 2
        words = self._unread[:size].split()
        if words and (words[0] in STORAGE or words[0] == b"ms"):
            size += int(words[2 if words[0] == b"ms" else 4]) + 2
            while len(self._unread) < size:
                if not self._receive():
                    return None
        return self._take(size)

"""Connections to servers without a network: the test reads and writes the server's end of a socket pair."""

import socket

import gevent
from gevent.event import Event

from gmproxy.backend.connection import BackendConnection
from gmproxy.backend.interfaces import ConnectionOwner
from gmproxy.protocol.request import ReplySink
from support.loop import wait_until
from support.timing import PATIENCE

#: Maximum size of one receive call, bytes.
RECV_SIZE = 1 << 20


def received(sock):
    """All bytes that have arrived at the non-blocking socket `sock`; b"" if none have, or if the peer has closed."""
    data = bytearray()
    while True:
        try:
            chunk = sock.recv(RECV_SIZE)
        except BlockingIOError:
            return bytes(data)
        if not chunk:
            return bytes(data)
        data += chunk


class RecordingHalfClosed(list):
    """The half-closed connections of a server: a list of their sockets."""

    add = list.append


class RecordingOwner(ConnectionOwner):
    """The owner of a connection, instead of a Backend. Each request must be answered, failed or abandoned exactly once.

    outcomes   the outcomes of requests, in order: (request, "answered", reply), (request, "failed", (reason, started, may_repeat)) or
               (request, "abandoned", None)
    failures   of the connection: (reason, requests lost, fault)
    closed     the connections that have closed
    sessions   {request: the session to resume after the outcome of this request}
    raises     names of the methods that raise
    """

    label = "a:1"
    log_name = "server=a:1"
    meter = None

    def __init__(self):
        self.bytes_sent = self.bytes_received = 0
        self.outcomes = []
        self.failures = []
        self.closed = []
        self.sessions = {}
        self.raises = set()
        self.half_closed = RecordingHalfClosed()

    def _raise_if_wanted(self, name):
        if name in self.raises:
            raise ValueError("a fault of the test")

    def request_replied(self, request, found):
        self._raise_if_wanted("request_replied")
        self.outcomes.append((request, "answered", request.reply))
        return self.sessions.get(request)

    def request_failed(self, request, reason, started, may_repeat):
        self._raise_if_wanted("request_failed")
        self.outcomes.append((request, "failed", (reason, started, may_repeat)))
        return self.sessions.get(request)

    def request_abandoned(self, request):
        self.outcomes.append((request, "abandoned", None))
        return self.sessions.get(request)

    def connection_closed(self, connection):
        self.closed.append(connection)
        self._raise_if_wanted("connection_closed")

    def connection_failed(self, connection, reason, detail, lost, fault):
        self.failures.append((reason, lost, fault))
        self._raise_if_wanted("connection_failed")

    @property
    def replies(self):
        return [result for _, outcome, result in self.outcomes if outcome == "answered"]

    def outcome_of(self, request):
        """(outcome, result) of `request`; fails the test unless there is exactly one."""
        (outcome,) = [(outcome, result) for one, outcome, result in self.outcomes if one is request]
        return outcome


class RecordingSession(ReplySink):
    """The session of a client. `calls`: "resume" and "give_up", in order; a method in `raises` raises after it is recorded."""

    def __init__(self, raises=()):
        self.calls = []
        self.raises = raises

    def resume(self):
        self._record("resume")

    def give_up(self):
        self._record("give_up")

    def _record(self, name):
        self.calls.append(name)
        if name in self.raises:
            raise ValueError("a fault of the test")


class PairedConnection:
    """A BackendConnection over a socket pair.

    owner        the RecordingOwner
    connection   the BackendConnection
    server       the server's end of the pair, a non-blocking socket
    """

    def __init__(self, protocol="text", attached=True):
        self.owner = RecordingOwner()
        self.connection = BackendConnection(self.owner, 0, gevent.get_hub().loop, protocol)
        self.server, self._ours = socket.socketpair()
        self.server.setblocking(False)
        self._ours.setblocking(False)
        if attached:
            self.attach()

    def attach(self):
        self.connection.attach(self._ours)

    def submit(self, *requests):
        """Submit `requests`, flush, and return them."""
        for request in requests:
            self.connection.submit(request)
        self.connection.flush()
        return requests

    def reply(self, data):
        """The server sends `data`, and the connection reads it at once."""
        self.server.sendall(data)
        self.connection.on_readable()

    def read_all(self, size):
        """Read at least `size` bytes at the server while the connection sends them."""
        data = bytearray()

        def arrived():
            data.extend(received(self.server))
            return len(data) >= size

        wait_until(arrived)
        return bytes(data)

    def close(self):
        if not self.connection.closed:
            self.connection.close()
        self._ours.close()
        self.server.close()
        for sock in self.owner.half_closed:
            sock.close()


class PairedServers:
    """Replaces gmproxy.backend.connect.connect: each call makes a socket pair and returns one end; the other one is the server's.

    peers    the servers' ends, in the order of the calls
    error    the exception that calls raise; None: they succeed
    proceed  a gevent.event.Event; while it is clear, calls wait
    """

    def __init__(self):
        self.peers = []
        self.error = None
        self.proceed = Event()
        self.proceed.set()

    def __call__(self, *arguments, **options):
        assert self.proceed.wait(PATIENCE), "the test lets no connection be made"
        if self.error is not None:
            raise self.error
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.peers.append(theirs)
        return ours

    def close(self):
        for peer in self.peers:
            peer.close()

"""What a client sends: its protocol, the bytes that are received from it, and what has to be kept of it while it has no session."""

from typing import Any

from gmproxy.client.batch import Batch
from gmproxy.client.interfaces import ClientContext, State
from gmproxy.protocol.binary.packets import REQUEST
from gmproxy.protocol.binary.requests import BinaryParser
from gmproxy.protocol.text.requests import TextParser

#: The protocol of a client: unknown before its first byte.
UNKNOWN, TEXT, BINARY = 0, 1, 2

#: The state of a client that has not sent anything yet.
NEW = UNKNOWN, False, False


class ClientInput(Batch):
    """Receives the requests of a client. It never waits. Methods: loop callback or greenlet.

    bytes_read       so far
    idle_rounds      rounds of Sessions.tick since the client sent something last
    will_hibernate   True if these are enough to end the session
    """

    __slots__ = ("bytes_read", "idle_rounds", "will_hibernate", "_users", "_protocol", "_readable", "_hung_up", "_watcher")

    def __init__(self, service: ClientContext) -> None:
        super().__init__(service, TextParser(service.options.max_item_size))
        self._users = service.options.auth_file or None
        self._protocol = UNKNOWN
        self._watcher: Any = None  # of gevent, while there is a greenlet

    def begin_input(self, fd: int, connection_index: int, state: State, hung_up: bool) -> None:
        """Start to serve the client at the socket `fd`. `state`: as an earlier session has left it; `hung_up`: it sends nothing more."""
        self.begin_batches(fd, connection_index)
        self.bytes_read = 0
        self.idle_rounds = 0
        self.will_hibernate = False
        self._readable = True  # bytes may have arrived that are not received
        self._hung_up = hung_up
        former = self._protocol
        self._protocol, is_authenticated, self._from_proxy = state
        if self._protocol == BINARY:
            self._parser = BinaryParser(self.service.options.max_item_size, self._users, is_authenticated)
            return
        if former == BINARY:
            self._parser = TextParser(self.service.options.max_item_size)
        self._parser.users = None if is_authenticated else self._users

    def client_state(self) -> State:
        """What another session must know to continue with this client."""
        return self._protocol, self._parser.is_authenticated(), self._from_proxy

    def apply_options(self) -> None:
        """The options have changed. A client that is authenticated stays so."""
        options = self.service.options
        parser: Any = self._parser
        self._users = options.auth_file or None
        parser.max_item_size = options.max_item_size
        if parser.users is not None:
            parser.users = self._users

    def _receive(self) -> int:
        """Returns the number of bytes that were received; 0: the client has disconnected, negative: none have arrived. Raises OSError."""
        self._readable = False
        count = self._parser.stream.receive(self.fd)
        if count > 0:
            if self._watcher is None:  # the poller reports bytes once: it has done so for the rest of these
                self._readable = self._hung_up or self._parser.stream.filled
            self.bytes_read += count
            self.idle_rounds = 0
            self.will_hibernate = False
            if self._protocol == UNKNOWN:
                self._detect_protocol()
        return count

    def _detect_protocol(self) -> None:
        """The first byte decides, for the whole connection."""
        stream = self._parser.stream
        self._protocol = BINARY if stream.byte_at(0) == REQUEST else TEXT
        if self._protocol == BINARY:
            self._parser = BinaryParser(self.service.options.max_item_size, self._users, False)
            self._parser.stream = stream

    def _hold_unread(self) -> None:
        """Hold the first bytes of an incomplete request while the rest is awaited. Raises OSError if that is too much."""
        if self._accounted_bytes != self._parser.stream.size():
            self._hold(self._parser.stream.size())

"""A request, with the place for its reply: it goes from a client's session through routes to a connection to a server. And the interfaces of
the classes that handle it on the way.

The same object is in the connection's queue of requests without a reply and in the session's batch, so nothing is looked up when a reply arrives.

Exactly once: code that has a reply to a request calls `complete`; if no server replied it calls `fail`; and code that catches an internal error
on the path of a request calls `abandon`. The sink receives the result of the first call.

Each of these may be called from a loop callback or a greenlet, and so may the methods of the interfaces, unless they say otherwise. None of them
may wait.
"""

from typing import TYPE_CHECKING, Any

from gmproxy import internal_errors
from gmproxy.protocol.commands import Command
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.recv_buffer import RecvBuffer

#: The reply to a request on which an internal error happened (gmproxy.internal_errors).
INTERNAL_ERROR = b"SERVER_ERROR internal error\r\n"

#: Which server a request is sent to, for the log of slow requests: the primary, the backup in its place, or the backup for the copy of a write.
PRIMARY, BACKUP, COPY = range(3)
ROLES = ("primary", "backup", "copy")


class Route:
    """Where a request can be sent: a server (gmproxy/backend), or an object that chooses among several, copies, or tries another (gmproxy/routing).

    In the compiled build, the base class of a class is the one in its .pxd; this applies to all interfaces here."""

    __slots__ = ()

    def send(self, request: "Request") -> "ReplySink | None":
        """Send `request`. Exactly one of `on_reply`, `on_failure` and `on_internal_error` of its sink is called, possibly before this returns.

        Returns the client session whose last missing reply has arrived with that, or None. The caller must have it resumed. If this raises, the
        caller must call `abandon` on the request."""
        raise NotImplementedError

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        """For operators: the steps of a write, or a read, of `key` on this route as it is now."""
        raise NotImplementedError


class ReplySink:
    """An object that receives the reply to a request."""

    __slots__ = ()

    def on_reply(self, request: "Request") -> "ReplySink | None":
        """`request.reply` has arrived. Returns the same as Route.send. Called by Request.complete only, at most once for each request."""
        raise NotImplementedError

    def on_failure(self, request: "Request") -> "ReplySink | None":
        """Instead of `on_reply`: no server replied. `request.error` is the reason, and `request.failed_server` the label of the server that was
        tried last. `request.reply` is None, or, for several keys, has the values from other servers. Returns the same as Route.send. Called by
        Request.fail only."""
        raise NotImplementedError

    def on_internal_error(self, request: "Request") -> "ReplySink | None":
        """Instead of `on_reply`: after an internal error there will be no reply to `request`. The client must receive INTERNAL_ERROR. Returns the
        same as Route.send. It must not raise."""
        raise NotImplementedError

    def resume(self) -> None:
        """For client sessions only: continue, since all replies are there. Loop callback only."""
        raise NotImplementedError

    def give_up(self) -> None:
        """What a client session does whose `resume` raised: send the replies, if possible, and close the client. Loop callback only."""
        raise NotImplementedError


class ReplyRenderer:
    """Renders a reply in the form that the client needs, if that is not the form in which the server sent it."""

    __slots__ = ()

    def render(self, request: "Request") -> bytes:
        """What the client is sent for `request`, which has a reply; b"" if it is not to receive one."""
        raise NotImplementedError


class RequestParser:
    """Parses the requests of one client, of any protocol.

    stream          the RecvBuffer with the bytes of the client
    max_item_size   maximum length of a value, in bytes
    users           the Credentials (gmproxy.config.credentials) with which the client must log in before any other request, or None
    """

    __slots__ = ()

    if TYPE_CHECKING:  # a class that derives from this has them among its slots
        stream: RecvBuffer
        max_item_size: int
        users: Any

    def next_request(self) -> "Request | None":
        """The next complete request, or None if more bytes are needed. Raises ClientProtocolError if nothing after it can be parsed."""
        raise NotImplementedError

    def is_authenticated(self) -> bool:
        """True if the client has logged in, or need not log in."""
        raise NotImplementedError

    def is_between_messages(self) -> bool:
        """True if all bytes received are parsed and no request is incomplete: a new parser would differ only in `is_authenticated`."""
        raise NotImplementedError


class ReplyParser:
    """Parses the replies on one connection to a server, of any protocol.

    stream        the RecvBuffer with the bytes of the server
    values_found  number of values in the last reply
    out_of_step   True after a reply that shows that the server parses a data block as commands: the connection must be closed
    """

    __slots__ = ()

    if TYPE_CHECKING:
        stream: RecvBuffer
        values_found: int
        out_of_step: bool

    def is_between_messages(self) -> bool:
        """True if no byte has arrived after the last complete reply."""
        raise NotImplementedError

    def parse_reply(self, request: "Request") -> bytes | None:
        """The complete reply to `request`, the oldest that has none, in the text protocol; None while it has not all arrived. Raises BackendError if
        it is not valid: the connection must be closed."""
        raise NotImplementedError


class ClientProtocolError(Exception):
    """No further bytes of the client can be parsed: it is sent `reply`, and the connection is closed."""

    reply = b""


class Request:
    """A request and, later, its reply.

    command   the Command; None if `reply` is set from the beginning
    key       the key, or the first of several; b"" if the command has none
    keys      for a get of several keys, the KeyList of those that are requested from this route, in the client's order; for a command to
              which gmproxy itself replies, a list of the words behind its name; else None
    line      what a server is sent: the command line without noreply, CRLF, and, if the command has one, the data block and CRLF. For several
              keys only what is before the keys: the route completes it
    quiet     True: the client does not receive the reply (noreply)
    renderer  the ReplyRenderer for the client; None: it receives `reply` as it is
    reply     the complete reply, in the text protocol; None while there is none
    values_found  number of values in it
    has_value_offsets  for several keys: True if `reply` is as the server sent it, and `keys` has the offsets of its values; False for an error
              line and for a reply joined from several
    sink      the ReplySink that receives the reply; None if it has received it
    connection_index  which of the connections to a backend it is sent on; the same for all requests of a client at a time, which keeps their order
    role      PRIMARY, BACKUP or COPY
    retried   True if it was sent to this server again
    error     after `fail`, the reason word
    failed_server  after `fail`, the label of the server
    sent_at_byte  number of bytes that were queued on the connection before it, since the connection was opened
    made      after `fail`, True if a server has made the write, but too few have: nobody else is to make it
    started   after `fail`, True if a server may have received some of it, and so may make the write
    result    what its ReplicatedWrite knows of it (gmproxy.routing.replicated_write)
    """

    __slots__ = ("command", "key", "keys", "line", "quiet", "renderer", "reply", "values_found", "has_value_offsets", "sink",
                 "connection_index", "role", "retried", "error", "failed_server", "sent_at_byte", "started", "made", "result")  # fmt: skip

    def __init__(self, command: Command | None, key: bytes, line: bytes) -> None:
        self.begin(command, key, line)

    def begin(self, command: Command | None, key: bytes, line: bytes) -> None:
        self.command: Any = command
        self.key = key
        self.keys: Any = None
        self.line = line
        self.quiet = False
        self.renderer: ReplyRenderer | None = None
        self.reply: Any = None
        self.values_found = 0
        self.has_value_offsets = False
        self.sink: ReplySink | None = None
        self.connection_index = 0
        self.role = PRIMARY
        self.retried = False
        self.error: str | None = None
        self.failed_server: str | None = None
        self.sent_at_byte = 0
        self.started = False
        self.made = False
        self.result = 0

    def complete(self) -> ReplySink | None:
        """Pass `reply`, which has been set, to the sink. Does nothing if the sink has received a result already; if the sink raises, the client
        receives INTERNAL_ERROR. Returns the client session whose last missing reply this is, or None."""
        sink = self._take_sink()
        if sink is None:
            return None
        try:
            return sink.on_reply(self)
        except Exception:
            internal_errors.record("request.complete")
            return sink.on_internal_error(self)

    def fail(self, reason: str, server: str) -> ReplySink | None:
        """As `complete`, if no server replied: the last one that was tried, with the label `server`, because of `reason`, one of the eight reason
        words."""
        sink = self._take_sink()
        if sink is None:
            return None
        self.error = reason
        self.failed_server = server
        self.retried = False
        self.has_value_offsets = False
        try:
            return sink.on_failure(self)
        except Exception:
            internal_errors.record("request.fail")
            self.reply = INTERNAL_ERROR
            return sink.on_internal_error(self)

    def abandon(self) -> ReplySink | None:
        """As `complete`, after an internal error: the client receives INTERNAL_ERROR. Does not raise."""
        sink = self._take_sink()
        if sink is None:
            return None
        self.reply = INTERNAL_ERROR
        self.has_value_offsets = False
        return sink.on_internal_error(self)

    def _take_sink(self) -> ReplySink | None:
        """The sink at the first call, then None: so it receives one result, whatever raises."""
        sink = self.sink
        self.sink = None
        return sink

    def all_keys(self) -> Any:
        """The keys of a request for one key or several: an iterable with a length."""
        return (self.key,) if self.keys is None else self.keys

    def __repr__(self) -> str:
        name = self.command.name.decode() if self.command else "-"
        return f"<Request {name} {self.key!r} role={self.role} reply={self.reply!r:.40}>"


class RequestQueue:
    """A queue of requests, as collections.deque, with C methods in the compiled build.

    count   number of requests
    """

    __slots__ = ("count", "_ring", "_mask", "_at")

    def __init__(self) -> None:
        self.count = 0
        self._ring: list[Request | None] = [None] * 16  # the length is a power of 2
        self._mask = len(self._ring) - 1
        self._at = 0  # index of the oldest request

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Request:
        """The request at `index`, which is 0 for the oldest."""
        if not 0 <= index < self.count:
            raise IndexError("index out of range")
        return self._ring[(self._at + index) & self._mask]

    def first(self) -> Request | None:
        """The oldest, or None."""
        return self._ring[self._at]

    def append(self, request: Request) -> None:
        if self.count > self._mask:
            self._grow()
        self._ring[(self._at + self.count) & self._mask] = request
        self.count += 1

    def popleft(self) -> Request:
        request = self._ring[self._at]
        if request is None:
            raise IndexError("the queue is empty")
        self._ring[self._at] = None
        self._at = (self._at + 1) & self._mask
        self.count -= 1
        return request

    def _grow(self) -> None:
        self._ring = self._ring[self._at :] + self._ring[: self._at] + [None] * self.count
        self._mask = len(self._ring) - 1
        self._at = 0


def local_reply(reply: bytes) -> Request:
    """A request that is not sent to a server, since it has the reply `reply` from the beginning."""
    request = Request(None, b"", b"")
    request.reply = reply
    return request


def new_request(command: Command, key: bytes, line: bytes) -> Request:
    """A new Request, in the compiled build by a C call, which a call of the class is not."""
    request = Request.__new__(Request)
    request.begin(command, key, line)
    return request


def resume_all(ready: list[ReplySink]) -> None:
    """Have each session of the list `ready` send its replies. Loop callback only. Never raises."""
    for session in ready:
        try:
            session.resume()
        except Exception:
            internal_errors.record("session.resume")
            try:
                session.give_up()  # else its client would wait without end
            except Exception:
                internal_errors.record("session.give_up")

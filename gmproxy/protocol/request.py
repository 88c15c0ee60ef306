"""A request, and the place for its reply: what travels between a client's session and a connection to a backend; and the interfaces of the
classes that it meets on the way.

One object is both the request and its reply slot, so a connection's queue of unanswered requests and a session's batch of replies to come hold
the same objects, and nothing has to be looked up when a reply arrives.

Exactly once: code that has a reply for a request calls `complete`, where no server answers it calls `fail`, and code that catches an exception of
gmproxy's own on the way of a request calls `abandon`. Whichever comes first is what the sink gets.
"""

from typing import TYPE_CHECKING, Any

from gmproxy import internal_errors
from gmproxy.protocol.commands import Command
from gmproxy.protocol.hop import Hop
from gmproxy.protocol.recv_buffer import RecvBuffer

#: The answer to a request that gmproxy itself failed to answer (gmproxy.internal_errors).
INTERNAL_ERROR = b"SERVER_ERROR internal error\r\n"

#: Which server is asked, for the log of slow requests: the primary, the backup in its place, or the backup for the copy of a change.
PRIMARY, BACKUP, COPY = range(3)
ROLES = ("primary", "backup", "copy")


class Route:
    """Where a request can be sent: a server (gmproxy/backend), or what chooses among several, copies, or asks again (gmproxy/routing). What a class
    derives from this in the compiled build stands in its .pxd."""

    __slots__ = ()

    def send(self, request: "Request") -> "ReplySink | None":
        """Send `request`. Exactly one call of its sink follows, `on_reply`, `on_failure` or `on_internal_error`, perhaps before this returns.

        Returns the client session that waits for no more replies by this, or None. Called from a session's greenlet or from a callback of the
        loop; never waits. If it raises, the caller must call `abandon` on the request."""
        raise NotImplementedError

    def explain(self, key: bytes, is_write: bool) -> list[Hop]:
        """The way of a request for `key` as it is now: one that changes something, or one that only reads."""
        raise NotImplementedError


class ReplySink:
    """What gets the reply to a request. For the compiled build as above."""

    __slots__ = ()

    def on_reply(self, request: "Request") -> "ReplySink | None":
        """`request.reply` is there. Returns the client session that waits for no more replies by this, or None. Called by
        Request.complete alone, once for each request."""
        raise NotImplementedError

    def on_failure(self, request: "Request") -> "ReplySink | None":
        """Instead of `on_reply`: no server answered; `request.error` says why, and `request.failed_server` who was asked last. Where several keys
        were asked for, `request.reply` has what other servers answered, or is None. Returns the same as `on_reply`. Called by Request.fail
        alone."""
        raise NotImplementedError

    def on_internal_error(self, request: "Request") -> "ReplySink | None":
        """Instead of `on_reply`: gmproxy itself failed on `request`, and there will be no reply. Answers INTERNAL_ERROR to whatever this
        object asked `request` for. Returns the same as `on_reply`. It must not raise."""
        raise NotImplementedError

    def resume(self) -> None:
        """What a client session does that was returned so. Called from the loop's callbacks only."""
        raise NotImplementedError

    def give_up(self) -> None:
        """What a client session does whose `resume` raised: send the replies, if possible, and close the client. Loop callback only."""
        raise NotImplementedError


class ReplyRenderer:
    """The form in which the client gets a reply, where that is not the server's. For the compiled build as above."""

    __slots__ = ()

    def render(self, request: "Request") -> bytes:
        """The bytes that the client gets for the answered `request`; b"" for none. Called from a greenlet or a loop callback; must not wait."""
        raise NotImplementedError


class RequestParser:
    """The requests of one client, in whatever dialect. For the compiled build as above.

    `stream.feed(chunk)` takes what arrived; `next_request()` gives the next whole request, or None while more bytes are needed.
    Raises ClientProtocolError when the client cannot be understood any more.

    max_item_size   longest value that is taken
    users           gmproxy.config.credentials.Credentials, if the client must be one of them before it may ask anything; else None
    """

    __slots__ = ()

    if TYPE_CHECKING:  # a class that derives from this has them among its slots
        stream: RecvBuffer
        max_item_size: int
        users: Any

    def next_request(self) -> "Request | None":
        raise NotImplementedError

    def is_authenticated(self) -> bool:
        """True if the client has logged in, or need not."""
        raise NotImplementedError

    def is_between_messages(self) -> bool:
        """True if all bytes of the client are parsed: the only state that is left is `is_authenticated`."""
        raise NotImplementedError


class ReplyParser:
    """The replies on one link, in order, in whatever protocol. For the compiled build as above.

    `stream.feed(chunk)` takes what arrived; `parse_reply(request)`, for the oldest request that has no reply, returns the complete reply, or None
    while some of it has not arrived. Raises BackendError when the server cannot be understood any more.

    values_found  values in the reply just parsed
    out_of_step   set by an answer after which the server takes a data block for commands, so that nothing more can be trusted
    """

    __slots__ = ()

    if TYPE_CHECKING:
        stream: RecvBuffer
        values_found: int
        out_of_step: bool

    def is_between_messages(self) -> bool:
        """True if not a byte has arrived after the last complete reply."""
        raise NotImplementedError

    def parse_reply(self, request: "Request") -> bytes | None:
        raise NotImplementedError


class ClientProtocolError(Exception):
    """Nothing that the client says from here on can be understood. It gets the `reply`, and the connection is closed."""

    reply = b""


class Request:
    """One question and, later, its answer.

    command   None for a request that is answered without asking a server
    key       the key, or the first of several that the client named; b"" if the command has none
    keys      all keys of a retrieval of more than one key, in the client's order, or those of them that one server is asked for; else None
    line      what the server gets: the command line, without noreply, and the data block if there is one, each with CRLF
    quiet     True: the client said noreply
    renderer  the ReplyRenderer if the client gets the reply in another form; None: as it is
    reply     the complete answer of the server, or None while there is none
    values_found  values in it
    has_value_offsets  for several keys: True if `reply` is as the server gave it, and `keys` know where in it their values are; False if it
              is an error, or was pieced together
    sink      the ReplySink that gets the reply; None if none waits for it, or it has it already
    connection_index  which of a backend's connections carries it (the same for all requests of one client, for their order)
    role      PRIMARY, BACKUP or COPY
    retried   True once it was sent to this server a second time
    error     the reason word, once a server failed on it
    failed_server  the label of that server
    sent_at_byte  how many bytes the connection had queued before it
    """

    __slots__ = ("command", "key", "keys", "line", "quiet", "renderer", "reply", "values_found", "has_value_offsets", "sink",
                 "connection_index", "role", "retried", "error", "failed_server", "sent_at_byte")  # fmt: skip

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

    def complete(self) -> ReplySink | None:
        """`reply` is there: give it to the sink. Returns the client session that waits for no more replies by this, or None.

        The sink gets it once, however often this is called. If the sink fails, what it stands for is answered INTERNAL_ERROR. May be
        called from a callback of the loop; never waits.
        """
        sink = self._take_sink()
        if sink is None:
            return None
        try:
            return sink.on_reply(self)
        except Exception:
            internal_errors.record("request.complete")
            return sink.on_internal_error(self)

    def fail(self, reason: str, server: str) -> ReplySink | None:
        """No server answers, the last of them, which has the label `server`, because of `reason`: tell the sink. Returns the same as `complete`,
        and what holds for that holds for this."""
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
        """gmproxy itself failed on this request: the sink gets INTERNAL_ERROR for it, unless it has a reply already. Returns the same as
        `complete`; may be called from where that may."""
        sink = self._take_sink()
        if sink is None:
            return None
        self.reply = INTERNAL_ERROR
        self.has_value_offsets = False
        return sink.on_internal_error(self)

    def _take_sink(self) -> ReplySink | None:
        """The sink, for the first call alone: so that it gets one result, whatever raises."""
        sink = self.sink
        self.sink = None
        return sink

    def all_keys(self) -> Any:
        """The keys of a request that has one, or several: an iterable with a length."""
        return (self.key,) if self.keys is None else self.keys

    def __repr__(self) -> str:
        name = self.command.name.decode() if self.command else "-"
        return f"<Request {name} {self.key!r} role={self.role} reply={self.reply!r:.40}>"


class RequestQueue:
    """Requests in the order they came, as a collections.deque; a ring whose steps are C in the compiled build.

    count   how many there are
    """

    __slots__ = ("count", "_ring", "_mask", "_at")

    def __init__(self) -> None:
        self.count = 0
        self._ring: list[Any] = [None] * 16  # as long as a power of 2
        self._mask = len(self._ring) - 1
        self._at = 0  # the place of the oldest

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Request:
        """The oldest is 0."""
        if not 0 <= index < self.count:
            raise IndexError("not so many requests")
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
            raise IndexError("no request")
        self._ring[self._at] = None
        self._at = (self._at + 1) & self._mask
        self.count -= 1
        return request

    def _grow(self) -> None:
        self._ring = self._ring[self._at :] + self._ring[: self._at] + [None] * self.count
        self._mask = len(self._ring) - 1
        self._at = 0


def local_reply(reply: bytes) -> Request:
    """A request that needs no server: it is already answered with the bytes `reply`."""
    request = Request(None, b"", b"")
    request.reply = reply
    return request


def new_request(command: Command, key: bytes, line: bytes) -> Request:
    """A new Request. In the compiled build, unlike a call of the class, this is a step in C."""
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

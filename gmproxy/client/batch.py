"""The batch of a client: the requests whose replies are sent together. These are all that arrived in one piece, up to MAX_BATCH."""

from gmproxy import internal_errors
from gmproxy.client.interfaces import AWAITS_REPLIES, MAX_BATCH, RUNNING, ClientContext
from gmproxy.protocol.request import ClientProtocolError, ReplySink, Request, RequestParser, local_reply
from gmproxy.routing.ordering import BatchOrder
from gmproxy.transport.plain import PLAIN

#: Maximum number of requests that need no server that are served before other clients have their turn.
MAX_AT_ONCE = 16

#: After replies of BULK_REPLY bytes in a batch, the requests of the next BULK_BATCHES batches use the last connection to each server, so that small
#: replies do not wait behind large ones. (Without effect where there is one connection to a server.)
BULK_REPLY = 128 * 1024
BULK_BATCHES = 64
LAST_CONNECTION = -1

#: Bytes of replies that one batch should have at most: a client with large replies gets smaller batches, and its other requests wait in its receive
#: buffer and in the kernel. The size of the replies is only known after the first batch.
BATCH_BYTES = 4 * 1024 * 1024

#: Replies that wait for others of their batch are held (see Batch._hold) in steps of this many bytes.
HELD_STEP = 64 * 1024

#: The reply in place of one for which too many bytes would be held; then the client is closed. As from memcached.
NO_MEMORY = b"SERVER_ERROR out of memory writing get response\r\n"


class Batch(ReplySink):
    """Parses requests, sends them to the router, collects their replies, and sends what the kernel takes of these. It never waits; that is
    for Session, which derives from it. Methods: loop callback or greenlet.

    service            the PoolContext
    fd                 the socket of the client
    connection_index   the connection of each server that has this client's requests; may be changed at any time, for the next batch
    bytes_written      so far
    """

    __slots__ = ("service", "fd", "connection_index", "bytes_written", "_router", "_doing", "_parser", "_batch", "_pending", "_out",
                 "_out_at", "_quit", "_blocked_request", "_accounted_bytes", "_reply_bytes", "_max_batch", "_bulk_batches", "_order",
                 "_from_proxy")  # fmt: skip

    def __init__(self, service: ClientContext, parser: RequestParser) -> None:
        self.service = service
        self._router = service.router
        self._parser = parser
        self._batch: list[Request] = []
        self.begin_batches(-1, 0)

    def begin_batches(self, fd: int, connection_index: int) -> None:
        """Start to serve a client at the socket `fd`."""
        self.fd = fd
        self.connection_index = connection_index
        self.bytes_written = 0
        self._doing = RUNNING
        self._pending = 0  # requests of the batch without a reply
        self._out = b""  # replies that are being sent
        self._out_at = 0  # offset of what is not sent of it
        self._quit = False  # close the client after this batch
        self._blocked_request: Request | None = None  # parsed, but must wait for the batch before it
        self._accounted_bytes = 0  # bytes held for this client, see _hold
        self._reply_bytes = 0  # bytes of replies that wait for others of the batch
        self._max_batch = MAX_BATCH  # 0 once a reply was too large to be held
        self._bulk_batches = 0  # batches that still use the last connection, see BULK_BATCHES
        self._order: BatchOrder | None = None  # once it is needed
        self._from_proxy = False  # the client is a gmproxy that has our servers as its backups

    def is_reusable(self) -> bool:
        """True if `begin_batches` may be called for another client: nothing of the former one is left that could reach this object."""
        return self._pending == 0 and not self._batch and self._blocked_request is None and self._parser.is_between_messages()

    def serve_proxy(self) -> None:
        """The client is another gmproxy, of which this one is a backup: its requests from now on concern our primaries alone."""
        self._from_proxy = True

    def count_written(self, count: int) -> None:
        """`count` bytes were sent to the client by other code than this class."""
        self.bytes_written += count

    # -- requests

    def _read_batch(self) -> bool:
        """Parse and route up to MAX_BATCH requests. False if there was none. Raises what the parser raises, but for a ClientProtocolError."""
        batch = self._batch
        # No request of an earlier batch is in flight, so another connection does not change the order.
        connection_index = LAST_CONNECTION if self._bulk_batches else self.connection_index
        routing = False
        try:
            while len(batch) < (self._max_batch if self._pending else MAX_AT_ONCE) and not self._quit:
                request = self._blocked_request or self._parser.next_request()
                if request is None:
                    break
                if batch and self._must_wait(request):
                    self._blocked_request = request
                    break
                self._blocked_request = None
                batch.append(request)
                if request.reply is None:
                    request.sink = self
                    request.connection_index = connection_index
                    self._pending += 1
                    routing = True
                    self._dispatch(request)
                    routing = False
        except ClientProtocolError as end:
            batch.append(local_reply(end.reply))
            self._quit = True
        except Exception:
            if not routing:
                raise  # from the parser: it is unknown where the next request begins
            internal_errors.record("session.dispatch")
            self._router.abandon(batch[len(batch) - 1])
        return len(batch) > 0

    def _must_wait(self, request: Request) -> bool:
        """True if `request` must not be sent before the batch has its replies. Always so for a command without a key that has no reply yet."""
        if not request.key:
            return request.reply is None
        if not self._router.keeps_order:
            return False
        if self._order is None:
            self._order = BatchOrder(self._router)
        return self._order.must_wait(request, self._batch)

    def _dispatch(self, request: Request) -> None:
        if request.key:
            if self._from_proxy:
                self._router.send_to_own(request)
            else:
                self._router.send(request)
        elif request.command.name == b"quit":
            self._quit = True
            request.reply = b""
            request.complete()
        else:
            self.service.answer_locally(request)

    def on_reply(self, request: Request) -> ReplySink | None:
        """See ReplySink. Returns this session if the batch has all its replies and the session waits for that. `_pending` is decreased last: if this
        raises, `on_internal_error` decreases it."""
        if self._doing == AWAITS_REPLIES:
            self._reply_bytes += len(request.reply)
            if self._reply_bytes - self._accounted_bytes >= HELD_STEP:
                self._hold_reply(request)
            self._pending -= 1
            return self if self._pending == 0 else None
        self._pending -= 1
        return None

    def on_failure(self, request: Request) -> ReplySink | None:
        request.reply = self._router.reply_to_failure(request)
        return self.on_reply(request)

    def on_internal_error(self, request: Request) -> ReplySink | None:
        self._pending -= 1
        if self._pending == 0 and self._doing == AWAITS_REPLIES:
            return self
        return None

    def _hold_reply(self, request: Request) -> None:
        """Hold the replies that have arrived for the batch. If they are too large, discard this one, and close the client after the batch."""
        if self._max_batch == 0 or not self._account(self._reply_bytes + self._parser.stream.size()):
            self._reply_bytes -= len(request.reply)
            self._account(self._reply_bytes)
            request.reply = NO_MEMORY
            request.has_value_offsets = False
            self._max_batch = 0
            self._quit = True

    def _has_more(self) -> bool:
        """True if requests, or parts of one, were received that are not in this batch."""
        return self._blocked_request is not None or self._parser.stream.size() > 0

    # -- replies

    def _render_replies(self) -> None:
        """Move the replies of the batch to `_out`. If it raises before the batch is cleared, it can be called again."""
        batch = self._batch
        self._router.write_journal()
        if self._order is not None:
            self._order.finish_batch()
        count = len(batch)
        if count == 1:
            request = batch[0]
            data = b"" if request.quiet else request.reply if request.renderer is None else request.renderer.render(request)
        else:
            data = b"".join(
                [request.reply if request.renderer is None else request.renderer.render(request) for request in batch if not request.quiet]
            )
        batch.clear()
        self._reply_bytes = 0
        self._out = data
        self._out_at = 0
        self.bytes_written += len(data)
        if len(data) >= BULK_REPLY:
            self._bulk_batches = BULK_BATCHES
            if self._max_batch:
                self._max_batch = min(max(BATCH_BYTES * count // len(data), 1), MAX_BATCH)
        elif self._bulk_batches:
            self._bulk_batches -= 1
            self._max_batch = min(self._max_batch * 2, MAX_BATCH)

    def _send_on(self) -> None:
        """Send what the kernel takes of `_out` now. Raises OSError if the client has disconnected."""
        if self._out:
            self._out_at += PLAIN.send(self.fd, self._out, self._out_at)
            if self._out_at == len(self._out):
                self._out = b""

    # -- memory

    def _hold(self, count: int) -> None:
        """Hold `count` bytes for this client, in place of those before. Raises OSError if that is too much, for it or for all clients together."""
        if not self._account(count):
            raise OSError("too many bytes are held for clients")

    def _account(self, count: int) -> bool:
        """As _hold; returns False if that is too much."""
        fits = self.service.hold(count - self._accounted_bytes, count)
        self._accounted_bytes = count
        return fits

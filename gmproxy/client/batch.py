"""The requests of one client that are answered together: all that arrived in one piece, up to MAX_BATCH."""

from gmproxy import internal_errors
from gmproxy.client.interfaces import AWAITS_REPLIES, MAX_BATCH, RUNNING, ClientContext
from gmproxy.protocol.request import ClientProtocolError, ReplySink, Request, RequestParser, local_reply
from gmproxy.routing.ordering import BatchOrder
from gmproxy.transport.plain import PLAIN

#: Requests that need no server, answered in one go before other clients have their turn.
MAX_AT_ONCE = 16

#: After a reply of BULK_REPLY bytes, the client's requests use the connection for large replies, LAST_CONNECTION, for BULK_BATCHES batches: no
#: small reply waits behind a large one. (Where there is one connection to a server, it is the same.)
BULK_REPLY = 128 * 1024
BULK_BATCHES = 64
LAST_CONNECTION = -1

#: Bytes of answers that one batch should have: a client whose answers are long gets fewer requests in flight, and its other requests wait
#: in its own buffer and in the kernel. Until the first of them arrive nobody knows how long they are.
BATCH_BYTES = 4 * 1024 * 1024

#: Answers that wait for others of their batch are counted as held (Session._hold) in steps of this many bytes.
HELD_STEP = 64 * 1024

#: What a client gets in place of an answer that would hold too much memory, before it is closed; as from memcached.
NO_MEMORY = b"SERVER_ERROR out of memory writing get response\r\n"


class Batch(ReplySink):
    """Reads requests, has them routed, collects their replies, and sends what the kernel takes of them. It does not wait: that is what
    a Session, which derives from it, is for.

    service    what all clients of a pool share: router, options, admin commands, counters
    fd         the client's socket
    connection_index   which connection to a backend carries this client's requests; may be changed at any time
    bytes_written   so far
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
        """There is another client, at the socket `fd`."""
        self.fd = fd
        self.connection_index = connection_index
        self.bytes_written = 0
        self._doing = RUNNING
        self._pending = 0  # requests of the batch without an answer
        self._out = b""  # answers that are being sent
        self._out_at = 0  # how far
        self._quit = False  # the client ends, or cannot be understood: close when this batch is answered
        self._blocked_request: Request | None = None  # a request that was parsed but must wait for the batch before it
        self._accounted_bytes = 0  # bytes that wait for this client, see _hold
        self._reply_bytes = 0  # bytes of answers to the batch, which wait for the others
        self._max_batch = MAX_BATCH  # requests in flight at once; 0 once there was no memory for an answer
        self._bulk_batches = 0  # batches for which it is taken for one with long answers
        self._order: BatchOrder | None = None  # a BatchOrder, once it matters
        self._from_proxy = False

    def is_reusable(self) -> bool:
        """True if `begin_batches` may follow: nothing is left that could reach this object for the client that it had."""
        return self._pending == 0 and not self._batch and self._blocked_request is None and self._parser.is_between_messages()

    def serve_proxy(self) -> None:
        """The client is another gmproxy, and we are its backup: what it asks for from now on concerns our primaries alone."""
        self._from_proxy = True

    def count_written(self, count: int) -> None:
        """So many bytes were sent to the client beside the replies in `_out`."""
        self.bytes_written += count

    # -- requests

    def _read_batch(self) -> bool:
        """Parse and route up to MAX_BATCH requests. False if there was none."""
        batch = self._batch
        # All requests of the batch before have a reply, so the connection may change without changing their order.
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
                raise  # nobody knows where the client's next request begins
            internal_errors.record("session.dispatch")
            self._router.abandon(batch[len(batch) - 1])
        return len(batch) > 0

    def _must_wait(self, request: Request) -> bool:
        """True if `request` must not be sent before the batch is answered: for one without a key that is a command about the whole service."""
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
        """The reply to `request` is there. Returns this session if it waits for no other. It is counted last: should this raise, `on_internal_error`
        counts it."""
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
        """The same, with an error for a reply."""
        self._pending -= 1
        if self._pending == 0 and self._doing == AWAITS_REPLIES:
            return self
        return None

    def _hold_reply(self, request: Request) -> None:
        """Count what has arrived for the batch. Where that is too much, this answer goes, and the client when it has the others."""
        if self._max_batch == 0 or not self._account(self._reply_bytes + self._parser.stream.size()):
            self._reply_bytes -= len(request.reply)
            self._account(self._reply_bytes)
            request.reply = NO_MEMORY
            request.has_value_offsets = False
            self._max_batch = 0
            self._quit = True

    def _has_more(self) -> bool:
        """True if more was received than is answered by this batch."""
        return self._blocked_request is not None or self._parser.stream.size() > 0

    # -- replies

    def _render_replies(self) -> None:
        """From `_batch` to `_out`. If it raises before the batch is cleared, it can be called again."""
        batch = self._batch
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
        """Send of `_out` what the kernel takes now; if that is all, nothing is left there."""
        if self._out:
            self._out_at += PLAIN.send(self.fd, self._out, self._out_at)
            if self._out_at == len(self._out):
                self._out = b""

    # -- memory

    def _hold(self, count: int) -> None:
        """`count` bytes wait for this client now. Raises OSError if that is too much, for it or for all clients together."""
        if not self._account(count):
            raise OSError("too much memory waits for clients")

    def _account(self, count: int) -> bool:
        """The same; False if that is too much."""
        fits = self.service.hold(count - self._accounted_bytes, count)
        self._accounted_bytes = count
        return fits

"""One client: a greenlet that reads requests, has them routed, waits for their answers and sends these in order.

It reads as blocking code. What makes it quick is that everything is done for a batch, all the requests that
arrived in one piece: they are routed together, and one send takes all answers back once the last is there. Where nothing else is left
to do, whoever brings the last answer sends them and the greenlet sleeps on until the client speaks again: to wake it for that
is a twentieth of what a get costs.
"""

import logging
from collections.abc import Callable

import gevent
from gevent.monkey import get_original
from greenlet import greenlet

from gmproxy import internal_errors
from gmproxy.client.interfaces import ClientContext, State
from gmproxy.protocol.binary.packets import REQUEST
from gmproxy.protocol.binary.requests import BinaryParser
from gmproxy.protocol.request import BACKUP, ClientProtocolError, ReplySink, Request, RequestParser, local_reply
from gmproxy.protocol.text.requests import TextParser
from gmproxy.routing.ordering import BatchOrder
from gmproxy.transport import tcp
from gmproxy.transport.deadline import Deadline
from gmproxy.transport.plain import PLAIN

READ = 1

#: gevent's looks whether somebody waits for the descriptor, and closes it later: that is five more system calls. Nobody does.
close = get_original("os", "close")

log = logging.getLogger("gmproxy")

#: Requests of one client in flight at once; the rest of what it pipelined waits in its own buffer.
MAX_BATCH = 64

#: Of these, so many that nobody has to be asked for are answered before other clients have their turn.
MAX_AT_ONCE = 16

#: A client that gets an answer of so many bytes has its requests sent, for so many batches, over the link that is for such clients: no
#: small answer waits behind a long one. (Where a server has but one link, it is that one.)
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

#: What a client session is doing.
RUNNING, AWAITS_BYTES, AWAITS_REPLIES = 0, 1, 2

#: What a client speaks, before its first byte and after.
UNKNOWN, TEXT, BINARY = 0, 1, 2

#: That of a client of which nothing is known yet.
NEW = UNKNOWN, False, False


class Session(ReplySink):
    """
    service    what all sessions of a pool share: router, options, admin commands, counters
    fd         the client's socket, ours: it is closed at the end, unless the client is asleep
    lane       which link of a backend carries this client's requests; may be changed at any time
    state      what an earlier session of this client has left (see `client_state`)
    bytes_read, bytes_written   so far
    silent     times that `maybe_hibernate` was called since the client spoke last; `will_hibernate`: True if that was often enough
    asleep     True if it ended because the client was silent for long (see `maybe_hibernate`): the client is still there
    leaves_softly   True if the client is to leave after its next answer
    """

    __slots__ = ("service", "fd", "connection_index", "bytes_read", "bytes_written", "idle_rounds", "will_hibernate", "hibernating",
                 "_router", "_loop", "_wait", "_wake", "_left", "_watcher", "_watching", "_doing", "_readable",
                 "_parser", "_protocol", "_batch", "_pending", "_out", "_out_at", "_draining", "_after_next_reply",
                 "_quit", "_blocked_request", "_accounted_bytes", "_reply_bytes", "_max_batch", "_bulk_batches",
                 "_order", "_from_proxy")  # fmt: skip

    def __init__(self, service: ClientContext, fd: int, connection_index: int, state: State = NEW) -> None:
        self.service = service
        self.fd = fd
        self.connection_index = connection_index
        self.bytes_read = 0
        self.bytes_written = 0
        self.idle_rounds = 0
        self.will_hibernate = False
        self.hibernating = False
        self._router = service.router
        hub = gevent.get_hub()
        self._loop = hub.loop
        # Not hub.switch, which first looks up whether our greenlet has a hook for this: a tenth of a microsecond, twice a request.
        self._wait = greenlet.switch.__get__(hub)  # leaves the session's greenlet, until somebody calls
        self._wake: Callable[[], object] | None = None  # this
        self._left: Callable[..., None] | None = None  # called at the end
        self._watcher = self._loop.io(fd, READ)
        self._watching = False
        self._doing = RUNNING
        self._readable = False  # more has come, and nobody has looked at it
        self._protocol, is_authenticated, self._from_proxy = state
        self._parser = self._new_parser(is_authenticated)
        self._batch = []
        self._pending = 0  # requests of the batch without an answer
        self._out = b""  # answers that are being sent
        self._out_at = 0  # how far
        self._draining = False  # the proxy ends: close when all that has arrived is answered
        self._after_next_reply = False
        self._blocked_request: Request | None = None  # a request that was parsed but must wait for the batch before it
        self._order: BatchOrder | None = None  # a BatchOrder, once there are backups
        self._accounted_bytes = 0  # bytes that wait for this client, see _hold
        self._reply_bytes = 0  # bytes of answers to the batch, which wait for the others
        self._max_batch = MAX_BATCH  # requests in flight at once; 0 once there was no memory for an answer
        self._bulk_batches = 0  # batches for which it is taken for one with long answers
        self._quit = False  # the client ends, or cannot be understood: close when this batch is answered

    def drain(self, after_next_reply: bool = False) -> None:
        """Close the connection as soon as no answer is owed, or `after_next_reply`: after the next answer. Called from another greenlet."""
        self._draining = True
        self._after_next_reply = after_next_reply
        if self._doing == AWAITS_BYTES and not after_next_reply:
            self._run_soon()

    @property
    def drains_after_next_reply(self) -> bool:
        return self._draining and self._after_next_reply

    def maybe_hibernate(self, idle_rounds: int) -> None:
        """Called now and then. When it was called `idle_rounds` (0: never) since the client spoke last, and nothing of what it said is
        left to be done, the session ends, and another one can go on from its `client_state`."""
        self.idle_rounds += 1
        if self.idle_rounds >= idle_rounds > 0 and self._doing == AWAITS_BYTES and self._parser.is_between_messages():
            self.will_hibernate = True
            self._run_soon()

    def client_state(self) -> State:
        """What another session must know to go on with this client: what it speaks, True if it has logged in or need not, and True if it is
        another proxy that copies to us (see `serve_proxy`)."""
        return self._protocol, self._parser.is_authenticated(), self._from_proxy

    def serve_proxy(self) -> None:
        """The client is another gmproxy, and we are its backup: what it asks for from now on concerns our primaries alone. Were it copied
        to our backups, or looked up there, two proxies that are each other's backup would go on for ever."""
        self._from_proxy = True

    def _run_soon(self) -> None:
        """Have the greenlet run, which sees what there is to do."""
        self._doing = RUNNING
        self._readable = True  # perhaps
        self._loop.run_callback(self._wake)

    def apply_options(self) -> None:
        options = self.service.options
        parser = self._parser
        parser.max_item_size = options.max_item_size
        if parser.users is not None:  # who is in stays in
            parser.users = options.auth_file or None

    def _is_drained(self, answered: bool) -> bool:
        """Softly is only after an answer, and at a border: what has begun to arrive is waited for."""
        if not self._draining or self._readable:
            return False
        return not self._after_next_reply or (answered and not self._parser.stream.size())

    def start(self, left: "Callable[[Session], None]") -> None:
        """Serve the client in a greenlet of its own until it leaves, or sleeps, and then call left(session).

        A plain greenlet: gevent's Greenlet is half a KiB more for each client, and nobody joins or kills this one. Before the end it runs
        nothing but what is compiled: a Python function would cost it pages for its frames.
        """
        self._left = left
        self._wake = greenlet(self._serve, gevent.get_hub()).switch
        self._watch()
        self._loop.run_callback(self._wake)

    def _serve(self) -> None:
        try:
            self._run()
        except Exception:
            internal_errors.record("session", f"client={tcp.peer_name(self.fd)}")
        finally:  # also if the greenlet is ended from outside
            try:
                self._stop_watching()
            finally:
                if not self.hibernating:
                    if self.service.options.verbose:
                        log.debug("client left client=%s", tcp.peer_name(self.fd))
                    close(self.fd)
                self._left(self)

    def _stop_watching(self) -> None:
        """Before the descriptor is closed, whatever has failed: the loop ends the process for a watcher of one that is not open."""
        self._doing = RUNNING  # replies that come now find nobody to wake
        self._watcher.stop()
        self._watcher.close()
        self._hold(0)

    def _run(self) -> None:
        """Serve the client until it leaves, or sleeps."""
        try:
            while not self._quit:
                self._wait_for_bytes()
                count = self._parser.stream.receive(self.fd)
                if count == 0:
                    break
                if count > 0:
                    self.bytes_read += count
                    self.idle_rounds = 0
                    self.will_hibernate = False
                    if self._protocol == UNKNOWN:
                        self._begin()
                    self._answer_requests()
                    self._parser.stream.release_memory()
                if self._is_drained(count > 0):
                    break
                if self.will_hibernate and not self._readable:
                    self.hibernating = True
                    break
        except OSError:
            pass  # the client is gone

    def _begin(self) -> None:
        """The first byte tells the protocol, for the whole connection."""
        stream = self._parser.stream
        self._protocol = BINARY if stream.byte_at(0) == REQUEST else TEXT
        if self._protocol == BINARY:
            self._parser = self._new_parser(False)
            self._parser.stream = stream

    def _new_parser(self, is_authenticated: bool) -> RequestParser:
        options = self.service.options
        if self._protocol == BINARY:
            return BinaryParser(options.max_item_size, options.auth_file or None, is_authenticated)
        return TextParser(options.max_item_size, None if is_authenticated else options.auth_file or None)

    def _answer_requests(self) -> None:
        """Answer every whole request that has arrived, a batch at a time."""
        at_once = 0  # requests that nobody had to be asked for, since the loop was last free
        while self._read_batch():
            if self._pending:
                self._doing = AWAITS_REPLIES
                self._wait()
                at_once = 0
            else:
                at_once += len(self._batch)
            self._send_replies()
            if self._quit:
                return
            if at_once >= MAX_AT_ONCE:
                self._yield()
                at_once = 0

    def _yield(self) -> None:
        """Let the loop look at all other sockets before the next batch: perhaps there are many, and nobody to wait for, as where a server
        is down."""
        timer = self._loop.timer(0)  # a callback would come before them
        try:
            timer.start(self._wake)
            self._wait()
        finally:
            timer.close()

    # -- a batch of requests

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
            self._router.on_internal_error(batch[len(batch) - 1])
        return len(batch) > 0

    def _must_wait(self, request: Request) -> bool:
        """True if `request` must not be sent before the batch is answered: for one without a key that is a command about the whole service."""
        if not request.key:
            return request.reply is None
        if not self._router.backups:
            return False
        if self._order is None:
            self._order = BatchOrder(self._router)
        return self._order.must_wait(request, self._batch)

    def _dispatch(self, request: Request) -> None:
        if request.key:
            if self._from_proxy:
                request.role = BACKUP
            self._router.route(request)
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

    def resume(self) -> None:
        """All answers are there. Called from the loop's callbacks only: whoever calls from a greenlet is never switched back to."""
        if self._doing != AWAITS_REPLIES:
            return
        if self._is_last_batch() and self._send_from_here():
            self._doing = AWAITS_BYTES
            self._watch()
        else:
            self._doing = RUNNING
            self._wake()

    def give_up(self) -> None:
        """gmproxy itself failed in `resume`: let the client have its answers, if that can be, and the end. Called from the loop's callbacks
        only."""
        self._quit = True
        if self._doing == AWAITS_REPLIES:
            self._doing = RUNNING
            self._wake()

    def _is_last_batch(self) -> bool:
        """True if the client awaits nothing more than the answers to this batch."""
        return not (self._draining or self._quit or self._blocked_request is not None or self._parser.stream.size())

    def _send_from_here(self) -> bool:
        """Send the answers outside the greenlet. False if it has to do that, or the rest of it: what goes wrong here goes wrong
        there again, where somebody hears of it."""
        try:
            self._render_replies()
            self._send_on()
        except OSError:
            return False
        except Exception:
            internal_errors.record("session.send")
            return False
        if self._out:
            return False
        self._parser.stream.release_memory()
        if self._accounted_bytes:
            self._hold(0)
        return True

    def _send_replies(self) -> None:
        """Send the answers, and wait until the client has taken them."""
        if self._batch:
            self._render_replies()
        self._send_on()
        if self._out:
            self._send_slowly()
        elif self._accounted_bytes:
            self._hold(0)

    def _render_replies(self) -> None:
        batch = self._batch
        count = len(batch)
        if count == 1:
            request = batch[0]
            data = b"" if request.quiet else request.reply if request.renderer is None else request.renderer.render(request)
        else:
            data = b"".join(
                [request.reply if request.renderer is None else request.renderer.render(request) for request in batch if not request.quiet]
            )
        batch.clear()
        if self._order is not None:
            self._order.finish_batch()
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

    # -- the socket

    def _wait_for_bytes(self) -> None:
        """The watcher stays started from one wait to the next: to start it for each would be a system call each."""
        if self._accounted_bytes != self._parser.stream.size():
            self._hold(self._parser.stream.size())
        if not self._readable and not (self._draining and not self._after_next_reply):
            self._doing = AWAITS_BYTES
            self._watch()
            self._wait()
        self._readable = False

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._watcher.start(self._on_readable)

    def _on_readable(self) -> None:
        """Called from the loop. Never raises: gevent would not call it again, and the client would wait for ever."""
        try:
            if self._doing == AWAITS_BYTES:
                self._doing = RUNNING
                self._readable = True
                self._wake()
            else:  # more has come while we are busy: do not be told again until we ask
                self._watching = False
                self._watcher.stop()
        except Exception:
            internal_errors.record("session.on_readable")
            self._quit = True
            if self._doing == AWAITS_BYTES:
                self._doing = RUNNING
                self._wake()

    def _send_on(self) -> None:
        """Send of `_out` what the kernel takes now; if that is all, nothing is left there."""
        if self._out:
            self._out_at += PLAIN.send(self.fd, self._out, self._out_at)
            if self._out_at == len(self._out):
                self._out = b""

    def _send_slowly(self) -> None:
        """A client that does not read for `client_write_timeout` seconds is given up (OSError)."""
        try:
            while self._out:
                if self._max_batch:  # else it is to get what was counted as it arrived
                    self._hold(len(self._out))
                Deadline(self.service.options.client_write_timeout).wait_writable(self.fd)
                self._send_on()
        except TimeoutError:
            log.warning("client dropped reason=slow bytes=%d", len(self._out) - self._out_at)
            raise
        finally:
            self._hold(0)

    def _hold(self, count: int) -> None:
        """`count` bytes wait for this client now. Raises OSError if that is too much, for it or for all clients together."""
        if not self._account(count):
            raise OSError("too much memory waits for clients")

    def _account(self, count: int) -> bool:
        """The same; False if that is too much."""
        more = count - self._accounted_bytes
        self._accounted_bytes = count
        return self.service.hold(more, count)

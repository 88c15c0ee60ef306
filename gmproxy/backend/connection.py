"""One connection to a backend, shared by many clients.

    submit -> _out --flush, once a loop turn--> the server --on_readable--> _reader -> the oldest waiting request

Requests are pipelined: they are sent in the order of `submit`, and their replies arrive in that order, so the next reply is for the oldest request
in the queue `waiting`. Whatever puts that in doubt (a timeout, bytes after the last reply, a reply that its command cannot have) closes the
connection, so that a late reply is never taken for that of another request.

Methods: loop callback or greenlet, unless they say otherwise; none blocks.
"""

import socket
from collections import deque
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.in_flight import awaits_writes, overtaken_requests, queue_sizes
from gmproxy.backend.interfaces import ConnectionOwner
from gmproxy.backend.latency import ReplyTimer
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.protocol.binary.server_reader import BinaryReplyParser
from gmproxy.protocol.request import ReplySink, Request, RequestQueue, resume_all
from gmproxy.protocol.text.responses import TextReplyParser
from gmproxy.transport.plain import PLAIN

#: Bytes. A request of this size is sent by itself, without a copy. After this many bytes of an incomplete reply, other sockets have their turn.
LONG = 64 * 1024

#: Maximum number of receive calls before a reply counts as late. If that does not read all there is, the reply is still arriving.
LATE_READS = 16

#: A server that keeps sending a long reply, at least LONG bytes from one check to the next, has this many timeouts for it. The requests behind it
#: wait as long; but a client that reads large values cannot get a healthy server ejected.
TIMEOUTS_FOR_LONG = 10

READ, WRITE = 1, 2  # events of gevent's io watchers


class BackendConnection:
    """
    backend           gets the replies, the requests that fail, and the end of the connection
    connection_index  of this connection in `backend.connections`
    protocol          of the server, "text" or "binary"
    waiting           requests without a reply, the oldest first (RequestQueue)
    closed            True once it is closed; it is not opened again
    """

    __slots__ = ("backend", "connection_index", "protocol", "waiting", "closed", "_loop", "_sock", "_fd", "_reader", "_binary", "_out",
                 "_queued", "_sent", "_flush_due", "_unsent", "_unsent_at", "_read_watcher", "_write_watcher",
                 "_pause_timer", "_replied", "_marks", "_idle_mark", "_idle_since", "_timer", "_received",
                 "_received_mark")  # fmt: skip

    def __init__(self, backend: ConnectionOwner, connection_index: int, loop: Any, protocol: str) -> None:
        self.backend = backend
        self.connection_index = connection_index
        self.protocol = protocol
        self.waiting = RequestQueue()
        self.closed = False
        self._loop = loop
        self._sock: socket.socket | None = None
        self._fd = -1
        self._binary = BinaryReplyParser() if protocol == "binary" else None  # None: the server gets the request's line
        self._reader = self._binary or TextReplyParser()
        self._out: list[bytes] = []  # requests that are not yet sent
        self._queued = 0  # bytes submitted so far
        self._sent = 0  # of these, bytes the kernel took
        self._flush_due = False
        self._unsent: bytes | None = None  # what was sent last, if the kernel did not take all of it
        self._unsent_at = 0  # offset in it
        self._read_watcher: Any = None
        self._write_watcher: Any = None  # while the kernel takes no more
        self._pause_timer: Any = None
        self._replied = 0  # replies so far
        self._marks: deque[tuple[float, int]] = deque()  # (time, requests submitted by then), see check_late
        self._idle_mark = -1  # _queued at the last check_idle
        self._idle_since = 0.0
        self._timer = ReplyTimer()
        self._received = 0  # bytes so far
        self._received_mark = 0  # _received at the last check_late

    def __repr__(self) -> str:
        state = "closed" if self.closed else "opening" if self._sock is None else "open"
        return f"<BackendConnection {self.backend.label} index={self.connection_index} {state} waiting={len(self.waiting)}>"

    # -- opening and closing

    def attach(self, sock: socket.socket) -> None:
        """Use the connected, non-blocking socket `sock`, which is owned by this connection from now on. Greenlet: that of Backend._connect."""
        self._sock = sock
        self._fd = sock.fileno()
        self._idle_mark = -1  # idle since the next check at the earliest
        self._read_watcher = self._loop.io(self._fd, READ)
        self._read_watcher.start(self.on_readable)
        self._pause_timer = self._loop.timer(0)
        if self._out:
            self.flush()

    def attached(self) -> bool:
        """True while it owns a socket."""
        return self._sock is not None

    def close(self) -> None:
        """Close the connection without failing the requests that wait. Never raises."""
        self.closed = True
        watchers = [watcher for watcher in (self._read_watcher, self._write_watcher, self._pause_timer) if watcher is not None]
        sock = self._sock
        self._read_watcher = self._write_watcher = self._pause_timer = None
        self._sock = None
        self._fd = -1
        self._out = []
        self._unsent = None
        try:
            for watcher in watchers:
                watcher.stop()
                watcher.close()
        except Exception:
            internal_errors.record("connection.close", self.backend.log_name)
        try:
            if sock is not None:
                sock.close()
        except Exception:
            internal_errors.record("connection.close", self.backend.log_name)
        try:
            self.backend.connection_closed(self)
        except Exception:
            internal_errors.record("backend.connection_closed", self.backend.log_name)

    def fail(self, reason: str, detail: str = "", fault: bool = True) -> None:
        """Close the connection because of `reason`, one of gmproxy.errors.REASONS, and pass each request without a reply to the backend.
        `fault`: False if the server is not to blame. Loop callback only. Never raises."""
        if self.closed:
            return
        begun = True  # some of the next reply has arrived, or may have
        sent = self._sent
        sock = self._sock
        half_closes = False
        try:
            begun = not self._reader.is_between_messages()
            half_closes = sock is not None and reason not in (CLOSED, RESET) and awaits_writes(self.waiting)
        except Exception:
            internal_errors.record("connection.fail", self.backend.log_name)
        if half_closes:
            self._sock = None
        self.close()
        if half_closes:
            self._half_close(sock)
        waiting = self.waiting
        self.waiting = RequestQueue()
        try:
            self.backend.connection_failed(self, reason, detail, waiting.count, fault)
        except Exception:
            internal_errors.record("backend.connection_failed", self.backend.log_name)
        self._fail_requests(waiting, reason, sent, begun)

    def _fail_requests(self, waiting: RequestQueue, reason: str, sent: int, begun: bool) -> None:
        """The requests in `waiting` get no reply on this connection. `sent`: bytes that the kernel took; `begun`: True if some of the first reply
        has arrived."""
        overtaken = overtaken_requests(waiting, sent)
        ready = []
        while waiting.count:
            request = waiting.popleft()
            started = request.sent_at_byte < sent
            try:
                session = self.backend.request_failed(request, reason, started, not begun and request not in overtaken)
            except Exception:
                session = self._abandon(request, "backend.request_failed")
            begun = False
            if session is not None:
                ready.append(session)
        resume_all(ready)

    def _half_close(self, sock: socket.socket) -> None:
        try:
            self.backend.half_closed.add(sock)
        except Exception:
            internal_errors.record("half_closed.add", self.backend.log_name)
            sock.close()

    def _abandon(self, request: Request, where: str) -> ReplySink | None:
        """Record the exception that is being handled, raised in `where`, and abandon `request` alone. Returns the session that waits for no further
        reply, or None."""
        internal_errors.record(where, self.backend.log_name)
        return self.backend.request_abandoned(request)

    # -- to the server

    def submit(self, request: Request) -> None:
        """Send `request` with the next flush, and take the reply after those of the requests that wait for it. If this raises, the request is not
        on this connection."""
        data = request.line if self._binary is None else self._binary.encode(request)
        self._out.append(data)
        request.sent_at_byte = self._queued
        self._queued += len(data)
        self.waiting.append(request)
        if not self._flush_due and self._sock is not None:
            self._flush_due = True
            self._loop.run_callback(self.flush)

    def backlog(self) -> int:
        """Bytes submitted that the kernel has not taken."""
        return self._queued - self._sent

    def queues(self) -> tuple[int, int]:
        """(requests that are not completely sent, bytes of the requests without a reply)"""
        return queue_sizes(self.waiting, self._queued, self._sent)

    def flush(self) -> None:
        """Send what was submitted in this turn of the loop, mostly with one system call. Loop callback, or `attach`. Never raises."""
        self._flush_due = False
        try:
            self._flush()
        except Exception:
            self._fail_internally("connection.flush")

    def _flush(self) -> None:
        if self._sock is None or self._unsent is not None or not self._out:
            return
        if self.backend.meter is not None:
            self._timer.flushed(self._loop.now(), self._replied, self.waiting.count)
        while self._out and self._unsent is None:
            self._send(self._take_out(), 0)

    def _fail_internally(self, where: str) -> None:
        """Record the exception that is being handled, raised in `where`, and close the connection: it is unknown what was sent or received."""
        internal_errors.record(where, self.backend.log_name)
        self.fail(CLOSED, "internal error", False)

    def _take_out(self) -> bytes:
        """What is sent next: the requests of `_out` up to a LONG one, joined; or a LONG one by itself, which saves a copy."""
        out = self._out
        end = 0
        while end < len(out) and len(out[end]) < LONG:
            end += 1
        end = max(end, 1)
        if end == len(out):
            data = out[0] if end == 1 else b"".join(out)
            out.clear()
        else:
            data = out[0] if end == 1 else b"".join(out[:end])
            del out[:end]
        return data

    def _send(self, data: bytes, offset: int) -> None:
        try:
            count = PLAIN.send(self._fd, data, offset)
        except OSError:
            self._loop.run_callback(self._read_and_fail)
            return
        self._sent += count
        self.backend.bytes_sent += count
        offset += count
        if offset < len(data):
            self._unsent = data
            self._unsent_at = offset
            if self._write_watcher is None:
                self._write_watcher = self._loop.io(self._fd, WRITE)
                self._write_watcher.start(self.on_writable)

    def _read_and_fail(self) -> None:
        """Sending failed, but replies to earlier requests may have arrived. Loop callback only."""
        self.on_readable()
        self.fail(RESET)

    def on_writable(self) -> None:
        """The kernel takes more. Loop callback only."""
        data = self._unsent
        if data is None:
            return
        self._unsent = None
        try:
            self._send(data, self._unsent_at)
            if self._unsent is None and self._write_watcher is not None:
                self._write_watcher.stop()
                self._write_watcher.close()
                self._write_watcher = None
                self._flush()
        except Exception:
            self._fail_internally("connection.on_writable")

    # -- from the server

    def on_readable(self) -> None:
        """Bytes have arrived, or the end of the stream: pass on the replies. Loop callback only."""
        if self._sock is None:
            return
        ready = []
        try:
            count = self._reader.stream.receive(self._fd)
            if count > 0:
                self._parse_replies(count, ready)
                if self._timer.is_running():
                    self._timer.count_replies(self.backend.meter, self._replied)
                if self._reader.stream.size() >= LONG:
                    self._pause_reading()
            elif count == 0:
                self.fail(CLOSED)
        except BackendError as error:
            self.fail(error.reason, error.detail)
        except OSError as error:
            self.fail(RESET, str(error))
        except Exception:  # while the reply to the oldest request was parsed
            if self.waiting.count:
                session = self._abandon(self.waiting.popleft(), "connection.on_readable")
                if session is not None:
                    ready.append(session)
            else:  # after the last reply was parsed
                internal_errors.record("connection.on_readable", self.backend.log_name)
            self.fail(CLOSED, "internal error", False)
        resume_all(ready)

    def _pause_reading(self) -> None:
        """Some of a long reply has not arrived: read on after other sockets had a turn of the loop."""
        if not self.closed:
            self._read_watcher.stop()
            self._pause_timer.start(self._resume_reading)  # at once, but after the sockets that are ready by then

    def _resume_reading(self) -> None:
        """Loop callback only."""
        try:
            if self._read_watcher is not None:
                self._read_watcher.start(self.on_readable)
        except Exception:
            self._fail_internally("connection.resume_reading")

    def _parse_replies(self, count: int, ready: list[ReplySink]) -> None:
        """Pass on the replies that end in the `count` bytes just received. Adds to `ready` the sessions that wait for no further reply. Raises
        BackendError if the server cannot be understood."""
        reader = self._reader
        waiting = self.waiting
        backend = self.backend
        backend.bytes_received += count
        self._received += count
        slow = backend.meter is not None and self._timer.received(self._loop.now(), backend.meter)
        while waiting.count:
            request = waiting.first()
            reply = reader.parse_reply(request)
            if reply is None:
                return
            waiting.popleft()
            if slow:
                self._timer.note_slow(request, backend.meter, self._replied)
            self._replied += 1
            request.reply = reply
            try:
                session = backend.request_replied(request, reader.values_found)
            except Exception:
                session = self._abandon(request, "backend.request_replied")
            if session is not None:
                ready.append(session)
            if reader.out_of_step:
                raise BackendError(PROTOCOL, f"reply to a storage command: {reply!r}")
        if not reader.is_between_messages():
            raise BackendError(PROTOCOL, "bytes after the last reply")

    # -- time

    def check_late(self, now: float, timeout: float) -> None:
        """Fail the connection if a request waits for longer than `timeout` seconds. `now`: seconds of gmproxy.system.clock.running. To be called
        several times within a timeout. Loop callback only.

        No clock is read for a request. Each call leaves a mark: the number of requests submitted by then. If they do not have their replies
        within the timeout, the server is late, unless the replies have arrived and the loop has not read them yet.
        """
        marks = self._marks
        while marks and marks[0][1] <= self._replied:
            marks.popleft()
        sends_much = self._received - self._received_mark >= LONG
        self._received_mark = self._received
        if marks and now - marks[0][0] >= timeout:
            if self._catches_up(marks[0][1]):
                return
            if not sends_much:
                self.fail(TIMEOUT)
            elif now - marks[0][0] >= timeout * TIMEOUTS_FOR_LONG:
                self.fail(TIMEOUT, "long reply", False)
            return
        submitted = self._replied + self.waiting.count
        if submitted > (marks[-1][1] if marks else self._replied):
            marks.append((now, submitted))

    def _catches_up(self, requests: int) -> bool:
        """Read what has arrived: a loop that was busy runs its timers first. True if by then the first `requests` have their replies, the connection
        is closed, or more arrives than LATE_READS read."""
        for _ in range(LATE_READS):
            received = self.backend.bytes_received
            self.on_readable()
            if self.closed or self._replied >= requests:
                return True
            if self.backend.bytes_received == received:
                return False
        return True

    def check_idle(self, now: float, idle_timeout: float) -> None:
        """Close the connection if nothing was submitted for `idle_timeout` seconds. `now` as for check_late. Loop callback only."""
        if self.waiting.count or self._queued != self._idle_mark:
            self._idle_mark = self._queued
            self._idle_since = now
        elif now - self._idle_since >= idle_timeout:
            self.close()

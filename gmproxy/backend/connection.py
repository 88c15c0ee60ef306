"""One connection to a backend, shared by many clients.

    submit -> out --flush, once a loop turn--> the server --on_readable--> reader -> the oldest waiting request

Requests are pipelined: they leave in the order they came and their replies arrive in that order, so `waiting`, a queue, says whose
the next reply is. Whatever puts that in doubt (a timeout, bytes nobody asked for, a reply that cannot be) closes the link, and a
late reply can never be given to another request.

Everything here runs in the loop's own callbacks or for a moment in a client's greenlet: nothing in this file waits.
"""

import socket
from collections import deque
from typing import Any

from gmproxy import internal_errors
from gmproxy.backend.latency import ReplyTimer
from gmproxy.errors import CLOSED, PROTOCOL, RESET, TIMEOUT, BackendError
from gmproxy.protocol.binary.server_reader import BinaryReplyParser
from gmproxy.protocol.request import ReplySink, Request, RequestQueue, Route
from gmproxy.protocol.text.responses import TextReplyParser
from gmproxy.transport.plain import PLAIN

#: Bytes: a request so long is handed to the kernel by itself, and an answer of which so many are here, and not all, lets others go first.
LONG = 64 * 1024

#: Receive calls for what has arrived before a link is found late. An answer that needs more is still being received.
LATE_READS = 16

#: A server that keeps sending a long answer, at least LONG bytes from one check to the next, has this many timeouts for it. What is asked behind
#: that waits as long; but a client that asks for a lot cannot have a healthy server ejected.
TIMEOUTS_FOR_LONG = 10

READ, WRITE = 1, 2  # what a loop's io watcher can wait for


def resume_all(ready: list[ReplySink]) -> None:
    """Have each session of the list `ready` send its answers. Called from a callback of the loop; never raises."""
    for session in ready:
        try:
            session.resume()
        except Exception:
            internal_errors.record("session.resume")
            try:
                session.give_up()  # else its client would wait for ever
            except Exception:
                internal_errors.record("session.give_up")


class ConnectionOwner(Route):
    """Whose links these are, a Backend. In the compiled build it derives from this (see its .pxd).

    log_name                     the server as values of a log line, "server=10.0.0.1:11211"
    meter                        hears how long answers take (gmproxy.backend.latency.Meter), or None while nobody wants to know
    bytes_sent, bytes_received   so far
    """

    __slots__ = ()

    def request_answered(self, request: Request, found: int) -> ReplySink | None:
        """`request.reply` has come, with `values_found` values. Returns the session that waits for no more replies by this, or None."""
        raise NotImplementedError

    def request_abandoned(self, request: Request) -> ReplySink | None:
        """gmproxy itself failed on `request`. Returns the same, and never raises."""
        raise NotImplementedError


class BackendConnection:
    """
    backend   whose link this is: it hears of replies, failures and the end
    protocol  what the server speaks, text or binary
    waiting   requests without a reply, the oldest first (a RequestQueue)
    """

    __slots__ = ("backend", "connection_index", "protocol", "waiting", "closed", "_loop", "_sock", "_fd", "_reader", "_binary", "_out",
                 "_queued", "_sent", "_flush_due", "_unsent", "_unsent_at", "_read_watcher", "_write_watcher",
                 "_rest_timer", "_answered", "_marks", "_idle_mark", "_idle_since", "_timer", "_received",
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
        self._binary = BinaryReplyParser() if protocol == "binary" else None  # else the server gets a request's line
        self._reader = self._binary or TextReplyParser()
        self._out = []  # pieces not yet handed to the kernel
        self._queued = 0  # bytes submitted, in the life of this link
        self._sent = 0  # of these, bytes the kernel took
        self._flush_due = False
        self._unsent: bytes | None = None  # what the kernel did not take at the last send
        self._unsent_at = 0
        self._read_watcher = None
        self._write_watcher = None
        self._rest_timer = None
        self._answered = 0  # replies, in the life of this link
        self._marks = deque()  # (time, requests asked until then) of those that are not answered, see check_late
        self._idle_mark = -1  # see check_idle
        self._idle_since = 0.0
        self._timer = ReplyTimer()
        self._received = 0  # bytes, in the life of this link
        self._received_mark = 0  # see check_late

    def __repr__(self) -> str:
        state = "closed" if self.closed else "opening" if self._sock is None else "open"
        return f"<BackendConnection {self.backend.label} index={self.connection_index} {state} waiting={len(self.waiting)}>"

    # -- opening and closing

    def attach(self, sock: socket.socket) -> None:
        """Go to work over the connected, non-blocking socket `sock`."""
        self._sock = sock
        self._fd = sock.fileno()
        self._idle_mark = -1  # idle since the next check at the earliest
        self._read_watcher = self._loop.io(self._fd, READ)
        self._read_watcher.start(self.on_readable)
        self._rest_timer = self._loop.timer(0)
        if self._out:
            self.flush()

    def attached(self) -> bool:
        """True while it has a socket."""
        return self._sock is not None

    def close(self) -> None:
        """Close the connection. Requests that still wait are the caller's business. Never raises."""
        self.closed = True
        watchers = [watcher for watcher in (self._read_watcher, self._write_watcher, self._rest_timer) if watcher is not None]
        sock = self._sock
        self._read_watcher = self._write_watcher = self._rest_timer = None
        self._sock = None
        self._fd = -1
        self._out = []
        self._unsent = None
        try:
            for watcher in watchers:
                watcher.stop()
                watcher.close()
        except Exception:
            internal_errors.record("link.close", self.backend.log_name)
        try:
            if sock is not None:
                sock.close()
        except Exception:
            internal_errors.record("link.close", self.backend.log_name)
        try:
            self.backend.connection_closed(self)
        except Exception:
            internal_errors.record("backend.link_closed", self.backend.log_name)

    def fail(self, reason: str, detail: str = "", fault: bool = True) -> None:
        """Close the link because of `reason`. The backend gets each request that is left without a reply, and whatever becomes of one of
        them, the others too. `fault`: False if the server is not to blame. Called from a callback of the loop; never raises."""
        if self.closed:
            return
        begun = True  # unless it is known that nothing of the next reply has arrived
        sent = self._sent
        sock = self._sock
        half_closes = False
        try:
            begun = not self._reader.is_between_messages()
            half_closes = sock is not None and reason not in (CLOSED, RESET) and self._awaits_changes()
        except Exception:
            internal_errors.record("link.fail", self.backend.log_name)
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
            internal_errors.record("backend.link_failed", self.backend.log_name)
        self._fail_requests(waiting, reason, sent, begun)

    def _fail_requests(self, waiting: RequestQueue, reason: str, sent: int, begun: bool) -> None:
        """The requests in the queue `waiting` get no reply on this link. `sent`: bytes that the kernel took; `begun`: True if some of the
        first reply has arrived."""
        overtaken = self._overtaken(waiting, sent)
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

    def _overtaken(self, waiting: RequestQueue, sent: int) -> set[Request]:
        """The requests behind which a change of one of their keys was sent, of which `sent` bytes reached the kernel. To repeat such a read
        could answer with what its client wrote after it."""
        overtaken = set()
        changed = set()
        for request in reversed(waiting):
            if request.sent_at_byte >= sent:
                continue
            keys = request.keys if request.keys is not None else (request.key,)
            if changed and (b"" in changed or not changed.isdisjoint(keys)):
                overtaken.add(request)
            if request.command.is_write or not request.command.idempotent:
                changed.update(keys)  # that of flush_all is b""
        return overtaken

    def _half_close(self, sock: socket.socket) -> None:
        try:
            self.backend.half_closed.add(sock)
        except Exception:
            internal_errors.record("lingering.add", self.backend.log_name)
            sock.close()

    def _abandon(self, request: Request, where: str) -> ReplySink | None:
        """`where` an exception was raised that is being handled: only `request` has no reply for that. Returns the session that waits for no
        more replies by this, or None."""
        internal_errors.record(where, self.backend.log_name)
        return self.backend.request_abandoned(request)

    def _awaits_changes(self) -> bool:
        """True if the server may yet make a change, or flush, that we have given up."""
        for request in self.waiting:
            if request.command.is_write or not request.command.idempotent:
                return True
        return False

    # -- to the server

    def submit(self, request: Request) -> None:
        """Send `request` with the next flush; its reply will be the next after those it already waits for. If this raises, the link has
        nothing of it."""
        said = request.line if self._binary is None else self._binary.encode(request)
        self._out.append(said)
        request.sent_at_byte = self._queued
        self._queued += len(said)
        self.waiting.append(request)
        if not self._flush_due and self._sock is not None:
            self._flush_due = True
            self._loop.run_callback(self.flush)

    def backlog(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._queued - self._sent

    def queues(self) -> tuple[int, int]:
        """(requests that are not wholly sent, bytes of all that are not answered)"""
        if not self.waiting.count:
            return 0, 0
        unsent = 0
        end_mark = self._queued
        for request in reversed(self.waiting):
            if end_mark <= self._sent:
                break
            unsent += 1
            end_mark = request.sent_at_byte
        return unsent, self._queued - self.waiting.first().sent_at_byte

    def flush(self) -> None:
        """Hand all that was submitted in this turn of the loop to the kernel, mostly in one piece. Never raises."""
        self._flush_due = False
        try:
            self._flush()
        except Exception:
            self._fail_internally("link.flush")

    def _flush(self) -> None:
        if self._sock is None or self._unsent is not None or not self._out:
            return
        if self.backend.meter is not None:
            self._timer.flushed(self._loop.now(), self._answered, self.waiting.count)
        while self._out and self._unsent is None:
            self._send(self._take_out(), 0)

    def _fail_internally(self, where: str) -> None:
        """An exception of our own is being handled after which nobody knows what the server was sent, or has answered."""
        internal_errors.record(where, self.backend.log_name)
        self.fail(CLOSED, "internal error", False)

    def _take_out(self) -> bytes:
        """What is sent next, in one piece; a long one goes alone, so that it is not copied for that."""
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
            self._loop.run_callback(self._read_out_and_fail)
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

    def _read_out_and_fail(self) -> None:
        """Nothing can be sent any more, but answers to earlier requests may already be here."""
        self.on_readable()
        self.fail(RESET)

    def on_writable(self) -> None:
        """The loop says that the kernel takes more."""
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
            self._fail_internally("link.on_writable")

    # -- from the server

    def on_readable(self) -> None:
        """The loop says that bytes (or the end) have arrived: give the replies to whom they belong."""
        if self._sock is None:
            return
        ready = []
        try:
            count = self._reader.stream.receive(self._fd)
            if count > 0:
                self._take(count, ready)
                if self._timer.is_running():
                    self._timer.count_replies(self.backend.meter, self._answered)
                if self._reader.stream.size() >= LONG:
                    self._rest()
            elif count == 0:
                self.fail(CLOSED)
        except BackendError as error:
            self.fail(error.reason, error.detail)
        except OSError as error:
            self.fail(RESET, str(error))
        except Exception:  # in the reading of the oldest request's reply
            if self.waiting.count:
                session = self._abandon(self.waiting.popleft(), "link.on_readable")
                if session is not None:
                    ready.append(session)
            else:  # after that of the last one
                internal_errors.record("link.on_readable", self.backend.log_name)
            self.fail(CLOSED, "internal error", False)
        resume_all(ready)

    def _rest(self) -> None:
        """More of a long answer is still to come: let the others have one turn of the loop to themselves."""
        if not self.closed:
            self._read_watcher.stop()
            self._rest_timer.start(self._read_on)  # at once, but after the sockets that are ready by then

    def _read_on(self) -> None:
        try:
            if self._read_watcher is not None:
                self._read_watcher.start(self.on_readable)
        except Exception:
            self._fail_internally("link.read_on")

    def _take(self, count: int, ready: list[ReplySink]) -> None:
        """Read the replies that end in the `count` bytes just received; adds to `ready` the sessions that have all their answers now."""
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
                self._timer.note_slow(request, backend.meter, self._answered)
            self._answered += 1
            request.reply = reply
            try:
                session = backend.request_answered(request, reader.values_found)
            except Exception:
                session = self._abandon(request, "backend.answered")
            if session is not None:
                ready.append(session)
            if reader.out_of_step:
                raise BackendError(PROTOCOL, f"a storage command was answered {reply!r}")
        if not reader.is_between_messages():
            raise BackendError(PROTOCOL, "bytes that nobody asked for")

    # -- time

    def check_late(self, now: float, timeout: float) -> None:
        """Fail the link if a request waits for longer than `timeout` seconds. Called many times a timeout.

        No clock is read for a request. Each call leaves a mark: all that was asked before this moment. A mark that is not
        reached within the timeout means that the server is late, unless the answer has arrived and the loop has not come to it yet.
        `now` is by gmproxy.clock.running.
        """
        marks = self._marks
        while marks and marks[0][1] <= self._answered:
            marks.popleft()
        sends_much = self._received - self._received_mark >= LONG
        self._received_mark = self._received
        if marks and now - marks[0][0] >= timeout:
            if self._catches_up(marks[0][1]):
                return
            if not sends_much:
                self.fail(TIMEOUT)
            elif now - marks[0][0] >= timeout * TIMEOUTS_FOR_LONG:
                self.fail(TIMEOUT, "a long answer", False)
            return
        asked = self._answered + self.waiting.count
        if asked > (marks[-1][1] if marks else self._answered):
            marks.append((now, asked))

    def _catches_up(self, asked: int) -> bool:
        """Read what has arrived: a loop that was busy comes to its timers first. True if that answers the first `asked` requests, or
        ends the link, or if more arrives than is read at once. For callbacks of the loop."""
        for _ in range(LATE_READS):
            received = self.backend.bytes_received
            self.on_readable()
            if self.closed or self._answered >= asked:
                return True
            if self.backend.bytes_received == received:
                return False
        return True

    def check_idle(self, now: float, idle_timeout: float) -> None:
        """Close the link if nothing was asked of it for `idle_timeout` seconds. `now` as for check_late."""
        if self.waiting.count or self._queued != self._idle_mark:
            self._idle_mark = self._queued
            self._idle_since = now
        elif now - self._idle_since >= idle_timeout:
            self.close()

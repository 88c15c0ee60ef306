"""One client: its requests are read, routed, and their replies awaited and sent in order.

A greenlet reads as blocking code. What makes it quick is that everything is done for a batch, all the requests that
arrived in one piece: they are routed together, and one send takes all answers back once the last is there. Where nothing else is left
to do, whoever brings the last answer sends them and the greenlet sleeps on until the client speaks again: to wake it for that
is a twentieth of what a get costs.

The greenlet, and gevent's watcher with it, is made when there is something to wait for. Many clients connect for one request: what they send at
first is served from the loop (`run_in_loop`), as far as nobody has to wait, and if that is all, they never have one.
"""

import logging
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import greenlet

from gmproxy import internal_errors
from gmproxy.client.batch import MAX_AT_ONCE, Batch
from gmproxy.client.interfaces import AWAITS_BYTES, AWAITS_REPLIES, RUNNING, ClientContext, State
from gmproxy.protocol.binary.packets import REQUEST
from gmproxy.protocol.binary.requests import BinaryParser
from gmproxy.protocol.text.requests import TextParser
from gmproxy.system.malloc import C_HEAP_OBJECTS
from gmproxy.transport import tcp
from gmproxy.transport.deadline import Deadline

log = logging.getLogger("gmproxy")

READ = 1

#: Pieces that are served from the loop before a client has its greenlet: many clients send one request, and then `quit`.
PIECES_IN_LOOP = 2

#: What a client speaks, before its first byte and after.
UNKNOWN, TEXT, BINARY = 0, 1, 2

#: That of a client of which nothing is known yet.
NEW = UNKNOWN, False, False


class Session(Batch):
    """
    bytes_read       so far
    idle_rounds      times that `maybe_hibernate` was called since the client spoke last; `will_hibernate`: True if that was often enough
    hibernating      True if the session ended because the client was silent for long: the client is still there

    Whoever hears of the end closes the socket. A session that has ended can serve another client: see `is_reusable`.
    """

    __slots__ = ("bytes_read", "idle_rounds", "will_hibernate", "hibernating", "_loop", "_watch", "_ignore", "_on_closed", "_wait",
                 "_wake", "_watcher", "_watching", "_readable", "_is_watched", "_hung_up", "_received", "_pieces", "_users", "_protocol",
                 "_draining", "_after_next_reply")  # fmt: skip

    def __init__(
        self,
        service: ClientContext,
        watch: "Callable[[int, Session], object]",
        ignore: Callable[[int], object],
        on_closed: "Callable[[Session], object]",
    ) -> None:
        """`watch(fd, session)` is called once for each client, before its session waits for it the first time: `on_readable` is then called
        for whatever has arrived and arrives, until `ignore(fd)` is. Both may raise OSError. `on_closed(session)` is called at the end of
        each client, and must not raise."""
        super().__init__(service, TextParser(service.options.max_item_size))
        self._loop = gevent.get_hub().loop
        self._watch = watch
        self._ignore = ignore
        self._on_closed = on_closed
        self._wait: Callable[[], object] | None = None
        self._wake: Callable[[], object] | None = None
        self._watcher: Any = None  # gevent's, while there is a greenlet
        self._users = service.options.auth_file or None
        self._protocol = UNKNOWN
        self.begin(-1, 0, NEW, True, False)

    def begin(self, fd: int, connection_index: int, state: State, is_watched: bool, hung_up: bool) -> None:
        """Serve the client at the socket `fd`, as soon as `run_in_loop` is called. `state`: what an earlier session of this client has left
        (see `client_state`); `is_watched`: somebody calls `on_readable`; `hung_up`: the client sends nothing any more after what has
        arrived."""
        self.begin_batches(fd, connection_index)
        self.bytes_read = 0
        self.idle_rounds = 0
        self.will_hibernate = False
        self.hibernating = False
        self._readable = True  # more has come, and nobody has looked at it
        self._is_watched = is_watched
        self._hung_up = hung_up
        self._watching = False
        self._received = 0  # bytes, by `receive_first`
        self._pieces = 0  # that were received before there was a greenlet
        self._draining = False  # the proxy ends: close when all that has arrived is answered
        self._after_next_reply = False
        former = self._protocol
        self._protocol, is_authenticated, self._from_proxy = state
        if self._protocol == BINARY:
            self._parser = BinaryParser(self.service.options.max_item_size, self._users, is_authenticated)
            return
        if former == BINARY:
            self._parser = TextParser(self.service.options.max_item_size)
        self._parser.users = None if is_authenticated else self._users

    def receive_first(self) -> bool:
        """False if nothing has arrived yet from a client that was accepted just now. Raises OSError if it has gone."""
        self._received = self._receive()
        return self._received >= 0

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

    def _run_soon(self) -> None:
        """Have the greenlet run, which sees what there is to do."""
        self._doing = RUNNING
        self._readable = True  # perhaps
        self._loop.run_callback(self.look_again)

    def look_again(self) -> None:
        """See what there is to do. Called from the loop. Never raises."""
        try:
            if self._wake is None:
                self.run_in_loop()
            else:
                self._wake()
        except Exception:
            internal_errors.record("session.look_again")
            self._quit = True
            if self._wake is None:
                self._end()
            else:
                self._wake()

    def apply_options(self) -> None:
        options = self.service.options
        parser = self._parser
        self._users = options.auth_file or None
        parser.max_item_size = options.max_item_size
        if parser.users is not None:  # who is in stays in
            parser.users = self._users

    def _is_drained(self, answered: bool) -> bool:
        """Softly is only after an answer, and at a border: what has begun to arrive is waited for."""
        if not self._draining or self._readable:
            return False
        return not self._after_next_reply or (answered and not self._parser.stream.size())

    # -- in the loop

    def on_readable(self, hung_up: bool) -> None:
        """Called from the loop: something has arrived; `hung_up` as for `begin`. Never raises."""
        awaited = self._doing == AWAITS_BYTES  # else it is seen in time
        try:
            self._readable = True
            self._hung_up = self._hung_up or hung_up
        except Exception:
            internal_errors.record("session.on_readable")
            self._quit = True
        if awaited:
            self._doing = RUNNING
            self.look_again()

    def run_in_loop(self, replied: bool = False) -> None:
        """Serve the client as long as it has no greenlet. `replied`: what it had sent is answered. Called from the loop. Never raises."""
        try:
            if self._goes_on_in_loop(replied):
                return
        except OSError:
            pass  # the client is gone
        except Exception:
            internal_errors.record("session", f"client={tcp.peer_name(self.fd)}")
        self._end()

    def _goes_on_in_loop(self, replied: bool) -> bool:
        """False if the session ends."""
        while True:
            if not replied:
                count = self._received or self._receive()
                self._received = 0
                if count == 0:
                    return False
                if count > 0:
                    self._pieces += 1
                    if self._pieces > PIECES_IN_LOOP or self._parser.stream.filled or not self._answer_in_loop():
                        self._start_greenlet()
                        return True
                    if self._doing == AWAITS_REPLIES:
                        return True
                replied = count > 0
            if self._is_finished(replied):
                return False
            if not self._readable:
                self._hold_unread()
                self._be_watched()
                self._doing = AWAITS_BYTES
                return True
            replied = False

    def _answer_in_loop(self) -> bool:
        """Answer what was received. False if the greenlet has to do that, or the rest of it."""
        if not self._read_batch():
            return True
        if self._pending:
            self._doing = AWAITS_REPLIES
            return True
        return not self._has_more() and self._send_from_here()

    def _resume_in_loop(self) -> None:
        """All answers are there."""
        if self._has_more() or not self._send_from_here():
            self._start_greenlet()
            return
        self._doing = RUNNING
        self.run_in_loop(replied=True)

    def _start_greenlet(self) -> None:
        """From now on a greenlet serves the client, beginning with what was received for it. Called from the loop. Never raises.

        A plain greenlet: gevent's Greenlet is half a KiB more for each client, and nobody joins or kills this one. It runs nothing but what
        is compiled: a Python function would cost it pages for its frames.
        """
        try:
            self._doing = RUNNING
            self._be_watched()
            self._ignore(self.fd)
            hub = gevent.get_hub()
            # Not hub.switch, which first looks up whether our greenlet has a hook for this: a tenth of a microsecond, twice a request.
            self._wait = greenlet.switch.__get__(hub)  # leaves the session's greenlet, until somebody calls
            with C_HEAP_OBJECTS:
                self._watcher = self._loop.io(self.fd, READ)
                self._wake = greenlet(self._serve, hub).switch  # this
        except OSError:  # there is no room to watch it
            self._end()
        except Exception:
            internal_errors.record("session.start_greenlet")
            self._end()
        else:
            self._wake()

    def _end(self) -> None:
        """The client is gone, or hibernates. Never raises."""
        self._doing = RUNNING  # replies that come now find nobody to wake
        self._wake = self._wait = None
        watcher = self._watcher
        self._watcher = None
        try:
            if watcher is not None:  # before the descriptor is closed: the loop ends the process for a watcher of one that is not open
                watcher.stop()
                watcher.close()
            self._parser.stream.release_memory()
            if self._accounted_bytes:
                self._hold(0)
        except Exception:
            internal_errors.record("session.end")
        self._on_closed(self)

    # -- in the greenlet

    def _serve(self) -> None:
        try:
            self._run()
        except OSError:
            pass  # the client is gone
        except Exception:
            internal_errors.record("session", f"client={tcp.peer_name(self.fd)}")
        finally:  # also if the greenlet is ended from outside
            self._end()

    def _run(self) -> None:
        """Serve the client until it leaves, or hibernates."""
        answered = True
        while True:
            if answered:
                self._answer_requests()
                self._parser.stream.release_memory()
            if self._is_finished(answered):
                return
            self._wait_for_bytes()
            count = self._receive()
            if count == 0:
                return
            answered = count > 0

    # -- what the client sends

    def _receive(self) -> int:
        """How many bytes were received: 0 once the client has gone, less if there are none. Raises OSError."""
        self._readable = False
        count = self._parser.stream.receive(self.fd)
        if count > 0:
            if self._watcher is None:
                self._readable = self._hung_up or self._parser.stream.filled  # of what is there already nobody tells us again
            self.bytes_read += count
            self.idle_rounds = 0
            self.will_hibernate = False
            if self._protocol == UNKNOWN:
                self._begin()
        return count

    def _is_finished(self, answered: bool) -> bool:
        """True if the session is to end. `answered`: what was received last has been answered."""
        if self._quit or self._is_drained(answered):
            return True
        self.hibernating = self.will_hibernate and not self._readable
        return self.hibernating

    def _begin(self) -> None:
        """The first byte tells the protocol, for the whole connection."""
        stream = self._parser.stream
        self._protocol = BINARY if stream.byte_at(0) == REQUEST else TEXT
        if self._protocol == BINARY:
            self._parser = BinaryParser(self.service.options.max_item_size, self._users, False)
            self._parser.stream = stream

    def _answer_requests(self) -> None:
        """Answer every whole request that has arrived, a batch at a time."""
        at_once = 0  # requests that nobody had to be asked for, since the loop was last free
        while self._batch or self._out or self._read_batch():
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
        self.service.yields += 1
        timer = self._loop.timer(0)  # a callback would come before them
        try:
            timer.start(self._wake)
            self._wait()
        finally:
            timer.close()

    def resume(self) -> None:
        """All answers are there. Called from the loop's callbacks only: whoever calls from a greenlet is never switched back to."""
        if self._doing != AWAITS_REPLIES:
            return
        if self._wake is None:
            self._resume_in_loop()
        elif self._is_last_batch() and self._send_from_here():
            self._doing = AWAITS_BYTES
            self._start_watching()
        else:
            self._doing = RUNNING
            self._wake()

    def give_up(self) -> None:
        """gmproxy itself failed in `resume`: let the client have its answers, if that can be, and the end. Called from the loop's callbacks
        only."""
        self._quit = True
        if self._doing != AWAITS_REPLIES:
            return
        if self._wake is None:
            self._start_greenlet()
        else:
            self._doing = RUNNING
            self._wake()

    def _is_last_batch(self) -> bool:
        """True if there is nothing to do but to send the answers to this batch and to wait."""
        return not (self._draining or self._quit or self._readable or self._has_more())

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

    # -- the socket

    def _wait_for_bytes(self) -> None:
        """The watcher stays started from one wait to the next: to start it for each would be a system call each."""
        self._hold_unread()
        if not self._readable and not (self._draining and not self._after_next_reply):
            self._doing = AWAITS_BYTES
            self._start_watching()
            self._wait()

    def _start_watching(self) -> None:
        if not self._watching:
            self._watching = True
            self._watcher.start(self.on_watched)

    def on_watched(self) -> None:
        """Called from the loop: something has arrived, and there is a greenlet. Never raises: gevent would not call it again, and the client would
        wait for ever."""
        awaited = self._doing == AWAITS_BYTES
        try:
            if awaited:
                self._readable = True
            else:  # more has come while we are busy: do not be told again until we ask
                self._watching = False
                self._watcher.stop()
        except Exception:
            internal_errors.record("session.on_watched")
            self._quit = True
        if awaited:
            self._doing = RUNNING
            self.look_again()

    def _hold_unread(self) -> None:
        """Count the beginning of a request while the rest is awaited. Raises OSError if that is too much."""
        if self._accounted_bytes != self._parser.stream.size():
            self._hold(self._parser.stream.size())

    def _be_watched(self) -> None:
        """From now on `on_readable` is called. Raises OSError if the kernel has no room for that."""
        if not self._is_watched:
            self._is_watched = True
            self._watch(self.fd, self)

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

"""The session of one client: receives its requests, routes them, waits for their replies, and sends these in order.

A session is written as blocking code, in a greenlet (`_serve`). It is fast because everything is done for a batch, all requests that arrived in one
piece: they are routed together, and one send has all replies once the last one has arrived. If nothing else is left to do, the loop callback that
brings the last reply sends them (`resume`), and the greenlet is not switched to before the client sends something: that switch is a twentieth of the
cost of a get.

The greenlet, and a gevent watcher with it, is made when there is something to wait for. Many clients connect for one request: what a client sends
first is served in the loop (`run_in_loop`) as far as that does not have to wait. If that is all, there is never a greenlet.
"""

import logging
from collections.abc import Callable

import gevent
from greenlet import greenlet

from gmproxy import internal_errors
from gmproxy.client.batch import MAX_AT_ONCE
from gmproxy.client.client_input import NEW, ClientInput
from gmproxy.client.interfaces import AWAITS_BYTES, AWAITS_REPLIES, RUNNING, ClientContext, State
from gmproxy.system.malloc import C_HEAP_OBJECTS
from gmproxy.transport import tcp
from gmproxy.transport.deadline import Deadline

log = logging.getLogger("gmproxy")

READ = 1

#: Receive calls that are served in the loop before a client gets a greenlet: many clients send one request, and then `quit`.
PIECES_IN_LOOP = 2


class Session(ClientInput):
    """
    hibernating   True if the session has ended because its client was idle; the client is still connected

    `on_closed` closes the socket. A session that has ended can serve another client, if `is_reusable`.
    """

    __slots__ = ("hibernating", "_loop", "_watch", "_ignore", "_on_closed", "_wait", "_wake", "_watching", "_is_watched",
                 "_received", "_pieces", "_draining", "_after_next_reply")  # fmt: skip

    def __init__(
        self,
        service: ClientContext,
        watch: "Callable[[int, Session], object]",
        ignore: Callable[[int], object],
        on_closed: "Callable[[Session], object]",
    ) -> None:
        """`watch(fd, session)` is called once for each client, before the session first waits for it: from then on `on_readable` is called
        for all that has arrived and arrives, until `ignore(fd)` is called. Both may raise OSError. `on_closed(session)` is called at the end
        of the session, and must not raise."""
        super().__init__(service)
        self._loop = gevent.get_hub().loop
        self._watch = watch
        self._ignore = ignore
        self._on_closed = on_closed
        self._wait: Callable[[], object] | None = None  # while there is a greenlet: switches from it to the hub
        self._wake: Callable[[], object] | None = None  # and from the hub to it
        self.begin(-1, 0, NEW, True, False)

    def begin(self, fd: int, connection_index: int, state: State, is_watched: bool, hung_up: bool) -> None:
        """As `begin_input`; then `run_in_loop` serves the client. `is_watched`: `on_readable` is called for it already."""
        self.begin_input(fd, connection_index, state, hung_up)
        self.hibernating = False
        self._is_watched = is_watched
        self._watching = False
        self._received = 0  # bytes, by `receive_first`
        self._pieces = 0  # receive calls served in the loop
        self._draining = False  # close the connection once all that has arrived has its replies
        self._after_next_reply = False  # or only after the next reply

    def receive_first(self) -> bool:
        """For a client that was just accepted. False if nothing has arrived from it. Raises OSError if it has disconnected. Loop callback only."""
        self._received = self._receive()
        return self._received >= 0

    def drain(self, after_next_reply: bool = False) -> None:
        """Close the connection as soon as the client waits for no reply or, with `after_next_reply`, after the next reply. Loop callback, or another
        greenlet."""
        self._draining = True
        self._after_next_reply = after_next_reply
        if self._doing == AWAITS_BYTES and not after_next_reply:
            self._run_soon()

    @property
    def drains_after_next_reply(self) -> bool:
        return self._draining and self._after_next_reply

    def maybe_hibernate(self, idle_rounds: int) -> None:
        """Called once in a round of Sessions.tick. After `idle_rounds` (0: never) in which the client sent nothing, and with no request in work, the
        session ends; another one can continue from its `client_state`. Loop callback only."""
        self.idle_rounds += 1
        if self.idle_rounds >= idle_rounds > 0 and self._doing == AWAITS_BYTES and self._parser.is_between_messages():
            self.will_hibernate = True
            self._run_soon()

    def _run_soon(self) -> None:
        self._doing = RUNNING
        self._readable = True  # bytes may have arrived
        self._loop.run_callback(self.look_again)

    def look_again(self) -> None:
        """Find what there is to do. Loop callback only. Never raises."""
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

    def _is_drained(self, replied: bool) -> bool:
        """True if draining ends the session now. With `after_next_reply` that is only after a reply, and while no part of a request has arrived."""
        if not self._draining or self._readable:
            return False
        return not self._after_next_reply or (replied and not self._parser.stream.size())

    # -- in the loop

    def on_readable(self, hung_up: bool) -> None:
        """Bytes have arrived; `hung_up` as for `begin`. Loop callback only. Never raises."""
        awaited = self._doing == AWAITS_BYTES  # else they are received when the session is done with what it has
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
        """Serve the client while it has no greenlet. `replied`: what was received last has its replies. Loop callback only. Never raises."""
        try:
            if self._continue_in_loop(replied):
                return
        except OSError:
            pass  # the client has disconnected
        except Exception:
            internal_errors.record("session", f"client={tcp.peer_name(self.fd)}")
        self._end()

    def _continue_in_loop(self, replied: bool) -> bool:
        """False if the session is to end."""
        while True:
            if not replied:
                count = self._received or self._receive()
                self._received = 0
                if count == 0:
                    return False
                if count > 0:
                    self._pieces += 1
                    if self._pieces > PIECES_IN_LOOP or self._parser.stream.filled or not self._serve_in_loop():
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

    def _serve_in_loop(self) -> bool:
        """Route what was received, and send the replies if they are there. False if the rest needs a greenlet."""
        if not self._read_batch():
            return True
        if self._pending:
            self._doing = AWAITS_REPLIES
            return True
        return not self._has_more() and self._send_in_loop()

    def _resume_in_loop(self) -> None:
        """All replies have arrived, and there is no greenlet."""
        if self._has_more() or not self._send_in_loop():
            self._start_greenlet()
            return
        self._doing = RUNNING
        self.run_in_loop(replied=True)

    def _start_greenlet(self) -> None:
        """Continue in a greenlet, beginning with what was received. Loop callback only. Never raises.

        A plain greenlet: gevent's Greenlet takes 0.5 KiB more for each client, and this one is never joined or killed. It runs only compiled
        functions: those of Python need memory pages for their frames.
        """
        try:
            self._doing = RUNNING
            self._be_watched()
            self._ignore(self.fd)
            hub = gevent.get_hub()
            # Not hub.switch, which first looks for a hook of the greenlet: that takes 0.1 us, twice for each request.
            self._wait = greenlet.switch.__get__(hub)  # suspends the greenlet, until the hub calls
            with C_HEAP_OBJECTS:
                self._watcher = self._loop.io(self.fd, READ)
                self._wake = greenlet(self._serve, hub).switch
        except OSError:  # the kernel has no room to watch it
            self._end()
        except Exception:
            internal_errors.record("session.start_greenlet")
            self._end()
        else:
            self._wake()

    def _end(self) -> None:
        """End the session: the client has disconnected, is to be closed, or hibernates. Never raises."""
        self._doing = RUNNING  # replies that arrive from now on resume nothing
        self._wake = self._wait = None
        watcher = self._watcher
        self._watcher = None
        try:
            if watcher is not None:  # before the descriptor is closed: the loop aborts the process for a watcher of a closed one
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
            pass  # the client has disconnected
        except Exception:
            internal_errors.record("session", f"client={tcp.peer_name(self.fd)}")
        finally:  # also if the greenlet is killed
            self._end()

    def _run(self) -> None:
        """Serve the client until the session ends."""
        replied = True
        while True:
            if replied:
                self._serve_requests()
                self._parser.stream.release_memory()
            if self._is_finished(replied):
                return
            self._wait_for_bytes()
            count = self._receive()
            if count == 0:
                return
            replied = count > 0

    def _is_finished(self, replied: bool) -> bool:
        """True if the session is to end. `replied`: what was received last has its replies."""
        if self._quit or self._is_drained(replied):
            return True
        self.hibernating = self.will_hibernate and not self._readable
        return self.hibernating

    def _serve_requests(self) -> None:
        """Serve every complete request that was received, a batch at a time."""
        at_once = 0  # requests that needed no server, since the loop had its last turn
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
        """Let all other sockets have a turn of the loop: this client may have many requests that need no server, as while a server is down."""
        self.service.yields += 1
        timer = self._loop.timer(0)  # a callback of the loop would run before them
        try:
            timer.start(self._wake)
            self._wait()
        finally:
            timer.close()

    def resume(self) -> None:
        """All replies of the batch have arrived. Loop callback only: a greenlet that called this would never be switched to again."""
        if self._doing != AWAITS_REPLIES:
            return
        if self._wake is None:
            self._resume_in_loop()
        elif self._is_last_batch() and self._send_in_loop():
            self._doing = AWAITS_BYTES
            self._start_watching()
        else:
            self._doing = RUNNING
            self._wake()

    def give_up(self) -> None:
        """`resume` raised: send the replies, if possible, and close the client. Loop callback only."""
        self._quit = True
        if self._doing != AWAITS_REPLIES:
            return
        if self._wake is None:
            self._start_greenlet()
        else:
            self._doing = RUNNING
            self._wake()

    def _is_last_batch(self) -> bool:
        """True if all that is left to do is to send the replies of this batch, and to wait for bytes."""
        return not (self._draining or self._quit or self._readable or self._has_more())

    def _send_in_loop(self) -> bool:
        """Send the replies. False if the rest needs the greenlet: an exception is raised again there, and ends the session."""
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
        """Send the replies, and wait until the kernel has taken them."""
        if self._batch:
            self._render_replies()
        self._send_on()
        if self._out:
            self._send_slowly()
        elif self._accounted_bytes:
            self._hold(0)

    # -- the socket

    def _wait_for_bytes(self) -> None:
        """Wait until bytes arrive. The watcher stays started for the next wait: to start it each time would be a system call each."""
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
        """Bytes have arrived, and there is a greenlet. Loop callback only. Never raises: gevent would not call it again."""
        awaited = self._doing == AWAITS_BYTES
        try:
            if awaited:
                self._readable = True
            else:  # the session is not done with what it has: stop the watcher until it waits
                self._watching = False
                self._watcher.stop()
        except Exception:
            internal_errors.record("session.on_watched")
            self._quit = True
        if awaited:
            self._doing = RUNNING
            self.look_again()

    def _be_watched(self) -> None:
        """Have `on_readable` called from now on. Raises OSError if the kernel has no room for it."""
        if not self._is_watched:
            self._is_watched = True
            self._watch(self.fd, self)

    def _send_slowly(self) -> None:
        """Send `_out` as the client reads it. Raises OSError if it has disconnected, or has not read anything for `client_write_timeout` seconds."""
        try:
            while self._out:
                if self._max_batch:  # else NO_MEMORY is among the replies, and the rest is within the limits
                    self._hold(len(self._out))
                Deadline(self.service.options.client_write_timeout).wait_writable(self.fd)
                self._send_on()
        except TimeoutError:
            log.warning("client dropped reason=slow bytes=%d", len(self._out) - self._out_at)
            raise
        finally:
            self._hold(0)

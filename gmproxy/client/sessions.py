"""The clients of one pool in this process. Who speaks has a session; who has not spoken, or has long been silent, is idle (idle.py)."""

import logging
import math

import gevent

from gmproxy import internal_errors
from gmproxy.client.idle import IdleClients
from gmproxy.client.interfaces import ClientContext, State
from gmproxy.client.poller import poller_of_process
from gmproxy.client.session import NEW, Session
from gmproxy.system.descriptors import CLIENTS_PER_CONNECTION
from gmproxy.system.malloc import C_HEAP_OBJECTS, trim_heap
from gmproxy.transport import tcp
from gmproxy.transport.plain import PLAIN

log = logging.getLogger("gmproxy")

#: Seconds between two looks at all who have a session: who has said nothing from one to the other is not busy.
ROUND_INTERVAL = 1.0

#: Of these, so many in one tick of the pool; or fewer, once so many hibernate.
SESSIONS_PER_TICK = 2048
MAX_HIBERNATED_AT_ONCE = 128

#: When so many hibernate, what they had goes back to the system.
TRIM_AFTER = 256

#: Sessions that are kept for clients to come: those who connect for each request need no new one.
MAX_UNUSED_SESSIONS = 128


class Sessions:
    """
    sessions       of those clients that are not idle
    bytes_read     what they said whose session has ended, and `bytes_written` what they were told, see `traffic`

    All methods are called from the loop, or for a moment from a session's greenlet.
    """

    def __init__(self, service: ClientContext) -> None:
        self._service = service
        self.sessions: set[Session] = set()
        self.bytes_read = 0
        self.bytes_written = 0
        self._worker_context = service.worker_context
        self._is_verbose = bool(service.options.verbose)
        self._poller = poller_of_process()
        self._loop = gevent.get_hub().loop
        self._idle_count = 0
        self._idle: dict[tuple[State, bool], IdleClients] = {}  # (state, after_next_reply) -> those
        self._new = self._idle_like(NEW, False)  # those who have not spoken
        self._unused: list[Session] = []
        self._noted = 0  # clients that the process has counted
        self._is_count_due = False  # the other workers are told in this turn of the loop
        # One object of each for all sessions.
        self._when_waiting, self._when_greenlet, self._when_closed = self.on_waiting, self.on_greenlet, self.on_closed
        self._round: list[Session] = []  # sessions that are still to be looked at
        self._next_round = 0.0  # loop time
        self._busy = 0  # how many of those looked at are
        self._connection_index_of_new = 0
        self._hibernated_since_trim = 0  # since memory was given back

    def __len__(self) -> int:
        return len(self.sessions) + self._idle_count

    def idle(self) -> int:
        """How many have no session."""
        return self._idle_count

    def traffic(self) -> tuple[int, int]:
        """(bytes read from clients, bytes written to them)"""
        return (
            self.bytes_read + sum(session.bytes_read for session in self.sessions),
            self.bytes_written + sum(session.bytes_written for session in self.sessions),
        )

    def reset_traffic(self) -> None:
        read, written = self.traffic()
        self.bytes_read -= read
        self.bytes_written -= written

    # -- from one state to the other

    def accept(self, listening: int, most: int) -> int:
        """Accept the clients that wait at the socket `listening`, at most `most`. Returns how many. Raises OSError if one cannot be accepted
        (transport/accept.py), after which others may."""
        accepted = 0
        try:
            while accepted < most:
                fd = PLAIN.accept(listening)
                if fd < 0:
                    break
                accepted += 1
                self._admit(fd)
        finally:
            self._note()
        return accepted

    def add(self, fd: int) -> None:
        """There is a new client at the socket `fd`, which becomes ours. Called from the loop. Never raises: what fails ends this client."""
        self._admit(fd)
        self._note()

    def _admit(self, fd: int) -> None:
        """Mostly the first request of the client is there already: to be told of that by the kernel would cost more than to look."""
        session = None
        try:
            self._service.connections += 1
            session = self._next_session()
            session.begin(fd, self._connection_index_of_new, NEW, False, False)
            if session.receive_first():
                self.sessions.add(session)
            else:
                self._poller.watch(fd, self._new)
                self._idle_count += 1
                self._unused.append(session)
                session = None
        except OSError:  # the client is gone, or there is no room for it
            self._close(fd)
        except Exception:
            internal_errors.record("clients.add")
            self._close(fd)
        else:
            if session is not None:
                session.run_in_loop()

    def wake(self, fd: int, hung_up: bool, idle: IdleClients, leaves: bool = False) -> None:
        """The client at `fd`, one of `idle`, has something for us, or is to be served for a last time because the proxy `leaves`. `hung_up`: it
        sends nothing after that. Called from the loop. Never raises: what fails ends this client."""
        session = None
        try:
            session = self._next_session()
            session.begin(fd, self._connection_index_of_new, idle.state, True, hung_up)
            if idle.after_next_reply or leaves:
                session.drain(not leaves)
            self.sessions.add(session)
            self._poller.replace(fd, session)
        except Exception:
            internal_errors.record("clients.wake")
            self.sessions.discard(session)
            self._idle_count -= 1
            self._close(fd)
        else:
            self._idle_count -= 1
            session.run_in_loop()

    def _next_session(self) -> Session:
        if self._unused:
            return self._unused.pop()
        with C_HEAP_OBJECTS:
            return Session(self._service, self._when_waiting, self._when_greenlet, self._when_closed)

    def on_waiting(self, fd: int, session: Session) -> None:
        """The client at `fd` is waited for the first time. Raises OSError where the kernel has no room."""
        self._poller.watch(fd, session)

    def on_greenlet(self, fd: int) -> None:
        """The client at `fd` has a greenlet, and a watcher, from now on. Raises OSError."""
        self._poller.ignore(fd)

    def on_closed(self, session: Session) -> None:
        """Called at the end of a session. Never raises: nobody is there to hear of it."""
        fd = session.fd
        try:
            self.sessions.discard(session)
            self.bytes_read += session.bytes_read
            self.bytes_written += session.bytes_written
            if session.hibernating:
                self._poller.watch_again(fd, self._idle_like(session.client_state(), session.drains_after_next_reply))
                self._idle_count += 1
                self._hibernated_since_trim += 1
                return
            if self._is_verbose:
                log.debug("client left client=%s", tcp.peer_name(fd))
            if len(self._unused) < MAX_UNUSED_SESSIONS and session.is_reusable():
                self._unused.append(session)
        except Exception:
            internal_errors.record("clients.on_closed")
            self.sessions.discard(session)
        self._close(fd)

    def _close(self, fd: int) -> None:
        """The client at `fd` is none of ours any more. Never raises."""
        try:
            self._poller.forget(fd)
        except Exception:
            internal_errors.record("clients.close")
        try:
            PLAIN.close(fd)
        except Exception:
            internal_errors.record("clients.close")
        self._note()

    def _idle_like(self, state: State, after_next_reply: bool) -> IdleClients:
        key = state, after_next_reply
        idle = self._idle.get(key)
        if idle is None:
            idle = self._idle[key] = IdleClients(self, state, after_next_reply)
        return idle

    # -- how many they are

    def _note(self) -> None:
        """Tell the process at once, and the other workers in this turn of the loop, how many clients we have. Never raises."""
        try:
            context = self._worker_context
            count = len(self.sessions) + self._idle_count
            context.clients += count - self._noted
            self._noted = count
            if context.client_counts is not None and not self._is_count_due:
                self._is_count_due = True
                self._loop.run_callback(self.publish_count)
        except Exception:
            internal_errors.record("clients.note")

    def publish_count(self) -> None:
        """Tell the other workers now. Called from the loop. Never raises."""
        if not self._is_count_due:
            return
        self._is_count_due = False
        try:
            context = self._worker_context
            context.client_counts.set_clients(context.number, self._service.options.name, len(self))
        except Exception:
            internal_errors.record("clients.publish_count")

    # -- who is busy, and who is silent

    def tick(self, now: float) -> None:
        """Look at some of the sessions. `now`: the loop's time."""
        if not self._round and now >= self._next_round:
            self._next_round = now + ROUND_INTERVAL
            self._begin_round()
        patience = self._service.options.hibernate_after
        idle_rounds = patience and math.ceil(patience / ROUND_INTERVAL) + 1  # the first time may have been just after it spoke
        hibernated = 0
        for _ in range(min(SESSIONS_PER_TICK, len(self._round))):
            session = self._round.pop()
            try:
                session.maybe_hibernate(idle_rounds)
            except Exception:
                internal_errors.record("clients.tick")
                continue
            if session.idle_rounds == 1:
                session.connection_index = self._busy // CLIENTS_PER_CONNECTION
                self._busy += 1
            hibernated += session.will_hibernate
            if hibernated == MAX_HIBERNATED_AT_ONCE:
                break

    def _begin_round(self) -> None:
        if self._hibernated_since_trim >= TRIM_AFTER:
            self._hibernated_since_trim = 0
            trim_heap()
        self._round = list(self.sessions)
        self._connection_index_of_new = self._busy // CLIENTS_PER_CONNECTION
        self._busy = 0

    # -- all of them

    def apply_options(self) -> None:
        self._is_verbose = bool(self._service.options.verbose)
        for session in [*self.sessions, *self._unused]:
            try:
                session.apply_options()
            except Exception:
                internal_errors.record("clients.follow_options")

    def drain_all(self, after_next_reply: bool) -> None:
        """Let every client go as soon as it has the answers it waits for, or `after_next_reply`: the next ones."""
        for session in list(self.sessions):
            try:
                session.drain(after_next_reply)
            except Exception:
                internal_errors.record("clients.leave")
        if not after_next_reply:
            for fd, idle in self._poller.idle_clients(self):
                self.wake(fd, False, idle, leaves=True)  # who has just spoken is answered
            return
        for idle in self._idle.values():
            idle.after_next_reply = True
        self._idle.clear()
        self._new = self._idle_like(NEW, False)

    def close(self) -> None:
        """Close those that have no session."""
        for fd, _ in self._poller.idle_clients(self):
            self._idle_count -= 1
            self._close(fd)

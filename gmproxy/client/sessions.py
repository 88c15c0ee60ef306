"""The clients of one pool in this process: those with a session, and those that are idle (idle.py)."""

import logging
import math

import gevent

from gmproxy import internal_errors
from gmproxy.client.client_input import NEW
from gmproxy.client.idle import IdleClients
from gmproxy.client.interfaces import ClientContext, State
from gmproxy.client.poller import poller_of_process
from gmproxy.client.session import Session
from gmproxy.system.descriptors import CLIENTS_PER_CONNECTION
from gmproxy.system.malloc import C_HEAP_OBJECTS, trim_heap
from gmproxy.transport import tcp
from gmproxy.transport.plain import PLAIN

log = logging.getLogger("gmproxy")

#: Seconds from one round through all sessions to the next. A client that sent something since the last round is busy.
ROUND_INTERVAL = 1.0

#: Maximum number of sessions checked, and of clients hibernated, in one tick of the pool.
SESSIONS_PER_TICK = 2048
MAX_HIBERNATED_AT_ONCE = 128

#: Clients hibernated until their memory is returned to the system.
TRIM_AFTER = 256

#: Maximum number of unused sessions that are kept for new clients: so that a client that connects for each request needs no new one.
MAX_UNUSED_SESSIONS = 128


class Sessions:
    """Methods: loop callback or greenlet, unless they say otherwise; none blocks.

    sessions       of the clients that are not idle
    bytes_read     from clients in sessions that have ended
    bytes_written  to clients in sessions that have ended
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
        self._new = self._idle_like(NEW, False)  # those that have not sent anything yet
        self._unused: list[Session] = []
        self._counted = 0  # clients that worker_context.clients includes
        self._is_count_due = False  # publish_count runs in this turn of the loop
        # Bound methods, made once for all sessions.
        self._when_waiting, self._when_greenlet, self._when_closed = self.on_waiting, self.on_greenlet, self.on_closed
        self._round: list[Session] = []  # sessions to check in this round
        self._next_round = 0.0  # loop time
        self._busy = 0  # busy clients found in this round
        self._connection_index_of_new = 0
        self._hibernated_since_trim = 0  # since memory was returned to the system

    def __len__(self) -> int:
        return len(self.sessions) + self._idle_count

    def idle(self) -> int:
        """The number of idle clients."""
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

    # -- from one state to another

    def accept(self, listening: int, most: int) -> int:
        """Accept up to `most` of the clients that wait at the socket `listening`. Returns how many. Raises OSError if one cannot be accepted
        (transport/accept.py); those before it are. Loop callback only."""
        accepted = 0
        try:
            while accepted < most:
                fd = PLAIN.accept(listening)
                if fd < 0:
                    break
                accepted += 1
                self._admit(fd)
        finally:
            self._count_clients()
        return accepted

    def add(self, fd: int) -> None:
        """Serve the client at the socket `fd`, which is owned by this object from now on. Never raises: if it fails, the client is closed.
        Loop callback only."""
        self._admit(fd)
        self._count_clients()

    def _admit(self, fd: int) -> None:
        """Mostly the first request has arrived already: to try to receive it costs less than to have epoll report it."""
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
        except OSError:  # the client has disconnected, or the kernel has no room for it
            self._close(fd)
        except Exception:
            internal_errors.record("sessions.add")
            self._close(fd)
        else:
            if session is not None:
                session.run_in_loop()

    def wake(self, fd: int, hung_up: bool, idle: IdleClients, is_draining: bool = False) -> None:
        """Make a session for the client at `fd`, one of `idle`: it has sent something or, with `is_draining`, is to be closed after what it may have
        sent. `hung_up`: it sends nothing more. Never raises: if it fails, the client is closed. Loop callback only."""
        session = None
        try:
            session = self._next_session()
            session.begin(fd, self._connection_index_of_new, idle.state, True, hung_up)
            if idle.after_next_reply or is_draining:
                session.drain(not is_draining)
            self.sessions.add(session)
            self._poller.replace(fd, session)
        except Exception:
            internal_errors.record("sessions.wake")
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
        """`session` waits for its client at `fd` for the first time. Raises OSError if the kernel has no room."""
        self._poller.watch(fd, session)

    def on_greenlet(self, fd: int) -> None:
        """The session of the client at `fd` has a greenlet and a gevent watcher from now on. Raises OSError."""
        self._poller.ignore(fd)

    def on_closed(self, session: Session) -> None:
        """`session` has ended. Never raises: the caller could not handle it."""
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
            internal_errors.record("sessions.on_closed")
            self.sessions.discard(session)
        self._close(fd)

    def _close(self, fd: int) -> None:
        """Close `fd`. Never raises."""
        try:
            self._poller.forget(fd)
        except Exception:
            internal_errors.record("sessions.close")
        try:
            PLAIN.close(fd)
        except Exception:
            internal_errors.record("sessions.close")
        self._count_clients()

    def _idle_like(self, state: State, after_next_reply: bool) -> IdleClients:
        key = state, after_next_reply
        idle = self._idle.get(key)
        if idle is None:
            idle = self._idle[key] = IdleClients(self, state, after_next_reply)
        return idle

    # -- the number of clients

    def _count_clients(self) -> None:
        """Update the number of clients of this process now, and that which other workers see in this turn of the loop. Never raises."""
        try:
            context = self._worker_context
            count = len(self.sessions) + self._idle_count
            context.clients += count - self._counted
            self._counted = count
            if context.client_counts is not None and not self._is_count_due:
                self._is_count_due = True
                self._loop.run_callback(self.publish_count)
        except Exception:
            internal_errors.record("sessions.count_clients")

    def publish_count(self) -> None:
        """Publish the number of clients to the other workers now. Never raises. Loop callback only."""
        if not self._is_count_due:
            return
        self._is_count_due = False
        try:
            context = self._worker_context
            context.client_counts.set_clients(context.number, self._service.options.name, len(self))
        except Exception:
            internal_errors.record("sessions.publish_count")

    # -- busy clients, and those to hibernate

    def tick(self, now: float) -> None:
        """Check some of the sessions: hibernate their clients, and spread busy clients over the connections to the servers. `now`: time of the loop
        in seconds. Loop callback only."""
        if not self._round and now >= self._next_round:
            self._next_round = now + ROUND_INTERVAL
            self._begin_round()
        hibernate_after = self._service.options.hibernate_after
        # One more: the first round may be just after the client sent something.
        idle_rounds = hibernate_after and math.ceil(hibernate_after / ROUND_INTERVAL) + 1
        hibernated = 0
        for _ in range(min(SESSIONS_PER_TICK, len(self._round))):
            session = self._round.pop()
            try:
                session.maybe_hibernate(idle_rounds)
            except Exception:
                internal_errors.record("sessions.tick")
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

    # -- all clients

    def apply_options(self) -> None:
        """The options have changed."""
        self._is_verbose = bool(self._service.options.verbose)
        for session in [*self.sessions, *self._unused]:
            try:
                session.apply_options()
            except Exception:
                internal_errors.record("sessions.apply_options")

    def drain_all(self, after_next_reply: bool) -> None:
        """Close every client as soon as it has the replies that it waits for or, with `after_next_reply`, after its next reply. Loop
        callback only."""
        for session in list(self.sessions):
            try:
                session.drain(after_next_reply)
            except Exception:
                internal_errors.record("sessions.drain_all")
        if not after_next_reply:
            for fd, idle in self._poller.idle_clients(self):
                self.wake(fd, False, idle, is_draining=True)
            return
        for idle in self._idle.values():
            idle.after_next_reply = True
        self._idle.clear()
        self._new = self._idle_like(NEW, False)

    def close(self) -> None:
        """Close the idle clients."""
        for fd, _ in self._poller.idle_clients(self):
            self._idle_count -= 1
            self._close(fd)

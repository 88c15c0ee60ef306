"""The clients of one pool in this process. Who speaks has a session, in a greenlet; who has long been silent sleeps (idle.py)."""

import logging
import math

from gevent.monkey import get_original

from gmproxy import internal_errors
from gmproxy.client.idle import IdleClients
from gmproxy.client.interfaces import ClientContext, State
from gmproxy.client.session import NEW, Session
from gmproxy.system.descriptors import CLIENTS_PER_CONNECTION
from gmproxy.system.malloc import CHeapObjects, trim_heap

log = logging.getLogger("gmproxy")

#: Seconds between two looks at all who are awake: who has said nothing from one to the other is not busy.
ROUND_INTERVAL = 1.0

#: Of these, so many in one tick of the pool; or fewer, once so many fall asleep.
SESSIONS_PER_TICK = 2048
MAX_HIBERNATED_AT_ONCE = 128

#: When so many fell asleep, what they had goes back to the system.
TRIM_AFTER = 256

#: gevent's closes later if somebody waits for the descriptor; nobody does.
_close = get_original("os", "close")

#: Where sessions and greenlets are made, so that it can.
C_HEAP_OBJECTS = CHeapObjects()


class Sessions:
    """
    sessions       of those who are awake (a set of Session)
    bytes_read     what they said whose session has ended, and `bytes_written` what they were told, see `traffic`
    """

    def __init__(self, service: ClientContext) -> None:
        self._service = service
        self.sessions: set[Session] = set()
        self.bytes_read = 0
        self.bytes_written = 0
        self._idle = IdleClients(self._wake)
        self._noted = 0  # clients that the process has counted
        self._when_closed = self._on_closed  # one object for all sessions
        self._round: list[Session] = []  # sessions that are still to be looked at
        self._next_round = 0.0  # loop time
        self._busy = 0  # how many of those looked at are
        self._connection_index_of_new = 0
        self._hibernated_since_trim = 0  # since memory was given back

    def __len__(self) -> int:
        return len(self.sessions) + self.hibernating()

    def hibernating(self) -> int:
        """How many are."""
        return len(self._idle)

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

    def start_session(self, fd: int, state: State = NEW, after_next_reply: bool = False) -> None:
        """The client at the socket `fd`, which becomes ours, has a session from now on. `state` and `after_next_reply`: see IdleClients. Called from
        the loop. If it raises, the socket is still the caller's."""
        with C_HEAP_OBJECTS:
            session = Session(self._service, fd, self._connection_index_of_new, state)
            if after_next_reply:
                session.drain(after_next_reply)
            session.start(self._when_closed)  # last: from now on the session closes the socket
        self.sessions.add(session)
        self._note()

    def _wake(self, fd: int, state: State, after_next_reply: bool) -> None:
        """Called from the loop: the client at `fd`, who slept, speaks. Never raises."""
        try:
            self.start_session(fd, state, after_next_reply)
        except Exception:
            internal_errors.record("clients.wake")
            _close(fd)
            self._note()

    def _on_closed(self, session: Session) -> None:
        """Called at the end of the session's greenlet. Never raises: nobody is there to hear of it."""
        self.sessions.discard(session)
        self.bytes_read += session.bytes_read
        self.bytes_written += session.bytes_written
        if session.hibernating:
            self._hibernate(session)
        self._note()

    def _hibernate(self, session: Session) -> None:
        fd = session.fd
        try:
            facts = session.client_state(), session.drains_after_next_reply
            try:
                self._idle.add(fd, *facts)
                self._hibernated_since_trim += 1
            except OSError as error:
                log.warning("client kept awake error=%r", str(error))
                self.start_session(fd, *facts)
        except Exception:
            internal_errors.record("clients.lay_down")
            _close(fd)

    def _note(self) -> None:
        """Tell the process, and the other workers, how many clients we have. Never raises."""
        context = self._service.worker_context
        count = len(self)
        context.clients += count - self._noted
        self._noted = count
        try:
            if context.client_counts is not None:
                context.client_counts.set_clients(context.number, self._service.options.name, count)
        except Exception:
            internal_errors.record("clients.note")

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
        for session in self.sessions:
            try:
                session.apply_options()
            except Exception:
                internal_errors.record("clients.follow_options")

    def drain_all(self, after_next_reply: bool) -> None:
        """Let every client go as soon as it has the answers it waits for, or `after_next_reply`: the next ones."""
        if after_next_reply:
            self._idle.drain_waiting()
        else:
            self._idle.close_all()
            self._note()
        for session in list(self.sessions):
            try:
                session.drain(after_next_reply)
            except Exception:
                internal_errors.record("clients.leave")

    def close(self) -> None:
        self._idle.close()
        self._note()

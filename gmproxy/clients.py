"""The clients of one pool in this process. Who speaks has a session, in a greenlet; who has long been silent sleeps (hibernation.py)."""

import logging
import math

from gmproxy.accel import pick
from gmproxy.heap import Apart, give_back_memory
from gmproxy.hibernation import Hibernation

_session = pick("session")
new_session = _session.Session
NEW = _session.NEW

log = logging.getLogger("gmproxy")

#: So many busy clients share a link to each server before the next ones get a second. Fewer links gather more requests in one send;
#: more let a large value pass beside the small ones.
CLIENTS_PER_LANE = 512

#: Seconds between two looks at all who are awake: who has said nothing from one to the other is not busy.
LOOK_EVERY = 1.0

#: Of these, so many in one tick of the pool; or fewer, once so many fall asleep.
LOOKED_AT = 2048
LAID_DOWN = 128

#: When so many fell asleep, what they had goes back to the system.
WORTH_GIVING_BACK = 256

#: Where sessions and greenlets are made, so that it can.
APART = Apart()


class Clients:
    """
    sessions       of those who are awake (a set of Session)
    bytes_read     what they said whose session has ended, and `bytes_written` what they were told, see `traffic`
    """

    def __init__(self, service):
        self._service = service
        self.sessions = set()
        self.bytes_read = 0
        self.bytes_written = 0
        self._hibernation = Hibernation(self.seat)
        self._when_over = self._over  # one object for all sessions
        self._round = []              # sessions that are still to be looked at
        self._next_round = 0.0        # loop time
        self._busy = 0                # how many of those looked at are
        self._lane_of_new = 0
        self._fell_asleep = 0         # since memory was given back

    def __len__(self):
        return len(self.sessions) + self.asleep()

    def asleep(self):
        """How many are."""
        return len(self._hibernation)

    def traffic(self):
        """(bytes read from clients, bytes written to them)"""
        return (self.bytes_read + sum(session.bytes_read for session in self.sessions),
                self.bytes_written + sum(session.bytes_written for session in self.sessions))

    def reset_traffic(self):
        read, written = self.traffic()
        self.bytes_read -= read
        self.bytes_written -= written

    def seat(self, fd, notes=NEW, softly=False):
        """The client at the socket `fd`, which becomes ours, has a session from now on. `notes` and `softly`: see Hibernation."""
        with APART:
            session = new_session(self._service, fd, self._lane_of_new, notes)
            session.start(self._when_over)
        if softly:
            session.leave(softly)
        self.sessions.add(session)
        self._note()

    def _over(self, session):
        self.sessions.discard(session)
        self.bytes_read += session.bytes_read
        self.bytes_written += session.bytes_written
        if session.asleep:
            self._lay_down(session)
        self._note()

    def _lay_down(self, session):
        facts = session.fd, session.notes(), session.leaves_softly
        try:
            self._hibernation.add(*facts)
            self._fell_asleep += 1
        except OSError as error:
            log.warning("client kept awake error=%r", str(error))
            self.seat(*facts)

    def _note(self):
        """Tell the other workers how many clients we have."""
        share = self._service.share
        if share.board is not None:
            share.board.note(share.number, self._service.options.name, len(self))

    # -- who is busy, and who is silent

    def tick(self, now):
        """Look at some of the sessions. `now`: the loop's time."""
        if not self._round and now >= self._next_round:
            self._next_round = now + LOOK_EVERY
            self._begin_round()
        patience = self._service.options.hibernate_after
        often_enough = patience and math.ceil(patience / LOOK_EVERY) + 1  # the first time may have been just after it spoke
        laid_down = 0
        for _ in range(min(LOOKED_AT, len(self._round))):
            session = self._round.pop()
            session.doze(often_enough)
            if session.silent == 1:
                session.lane = self._busy // CLIENTS_PER_LANE
                self._busy += 1
            laid_down += session.dozes
            if laid_down == LAID_DOWN:
                break

    def _begin_round(self):
        if self._fell_asleep >= WORTH_GIVING_BACK:
            self._fell_asleep = 0
            give_back_memory()
        self._round = list(self.sessions)
        self._lane_of_new = self._busy // CLIENTS_PER_LANE
        self._busy = 0

    # -- all of them

    def follow_options(self):
        for session in self.sessions:
            session.follow_options()

    def leave(self, softly):
        """Let every client go as soon as it has the answers it waits for, or `softly`: the next ones."""
        if softly:
            self._hibernation.let_go_softly()
        else:
            self._hibernation.let_go()
            self._note()
        for session in list(self.sessions):
            session.leave(softly)

    def close(self):
        self._hibernation.close()

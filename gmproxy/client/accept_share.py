"""When one of several workers, which share a listening socket, leaves the clients that wait there to the others.

The kernel wakes all of them for each client, and whoever is first accepts it. So without this, of clients that stay one worker has nearly all, and
clients that connect for each request wake all workers where one would do (docs/decisions.md).
"""

from typing import Any

from gmproxy.system.descriptors import ACCEPTED_AT_ONCE

#: Clients accepted at once by a worker that shares them with others: few, so that the others get theirs. Where clients do not stay, it is
#: ACCEPTED_AT_ONCE: whoever is not busy serves them.
ACCEPTED_BESIDE_OTHERS = 4

#: A worker looks anew at what it has, and what the others have, after so many clients that it accepted.
WINDOW = 16

#: Its clients stay if at least this part of those that it accepted in the last window is still there, in numbers.
STAYING = 0.75

#: A worker that has more clients than the others lets these go first for so many seconds.
STAND_BACK = 0.005

#: Where clients do not stay, whoever accepted fewer of them than another worker leaves them to that one for so many seconds, looks at what
#: waits, and takes part for as long as more wait than it accepts at once.
SPARE = 0.02

#: A worker without room for more clients leaves them to a worker that has room, but takes them itself, to turn them away, if they were
#: not accepted after this many pauses of STAND_BACK: the other one may hang.
LEFT_TO_OTHERS = 100


class AcceptShare:
    """What one worker accepts at one listening socket.

    max_accept   clients to be accepted at once

    Called from the loop; no method waits.
    """

    __slots__ = ("max_accept", "_context", "_counts", "_number", "_taken", "_clients_then", "_accepted_then", "_is_flooded", "_is_spare",
                 "_left")  # fmt: skip

    def __init__(self, worker_context: Any) -> None:
        self.max_accept = ACCEPTED_BESIDE_OTHERS
        self._context = worker_context
        self._counts = worker_context.client_counts
        self._number = worker_context.number
        self._taken = WINDOW  # clients in this window: the first one ends at once
        self._clients_then = -WINDOW  # clients of this worker when it began, and those accepted by each worker
        self._accepted_then = self._counts.accepted()
        self._is_flooded = False  # more waited than were accepted at once
        self._is_spare = False  # the last window was left to another worker
        self._left = 0  # pauses in a row because we have no room

    def accepted(self, count: int) -> None:
        """So many clients were accepted at once."""
        self._taken += count
        self._is_flooded = count >= self.max_accept
        self._counts.add_accepted(self._number, count)

    def pause(self) -> float:
        """For how many seconds the clients that wait are left to the other workers; 0: accept them. After that, `resume` is to be called."""
        seconds = self._pause()
        if seconds:
            self._counts.set_away(self._number, True)
        return seconds

    def resume(self) -> None:
        """The pause is over."""
        self._counts.set_away(self._number, False)
        self._accepted_then = self._counts.accepted()

    def _pause(self) -> float:
        if self._context.room() < ACCEPTED_BESIDE_OTHERS:
            if self._left < LEFT_TO_OTHERS and self._context.others_have_room(ACCEPTED_BESIDE_OTHERS):
                self._left += 1
                return STAND_BACK
        self._left = 0
        if self._taken < (ACCEPTED_BESIDE_OTHERS if self._is_spare else WINDOW):
            return 0.0
        clients = self._context.clients
        stay = not self._is_spare and clients - self._clients_then >= self._taken * STAYING
        others_accept = not self._counts.others_are_away(self._number)
        accepted = self._counts.accepted()
        if stay:
            if not (others_accept and self._counts.has_most_clients(self._number)):
                return 0.0
        else:
            self._is_spare = others_accept and not self._is_flooded and self._another_took_more(accepted)
        self.max_accept = ACCEPTED_BESIDE_OTHERS if stay else ACCEPTED_AT_ONCE
        self._taken = 0
        self._clients_then = clients
        self._accepted_then = accepted
        return STAND_BACK if stay else SPARE if self._is_spare else 0.0

    def _another_took_more(self, accepted: list[int]) -> bool:
        """True if another worker has accepted more clients than this one in this window; `accepted`: by each worker until now."""
        for number, (now, then) in enumerate(zip(accepted, self._accepted_then)):
            if number != self._number and now - then > self._taken:
                return True
        return False

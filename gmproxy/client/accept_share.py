"""When one of several workers, which share a listening socket, leaves the waiting connections to the other workers.

The kernel wakes all workers for each connection, and the first one accepts it. Without this, one worker would have nearly all long-lived
connections, and short ones would wake all workers where one is enough (docs/decisions.md).
"""

from typing import Any

from gmproxy.system.descriptors import ACCEPTED_AT_ONCE

#: Connections accepted at once where they are long-lived: few, so that the other workers get their part. Where they are short it is
#: ACCEPTED_AT_ONCE: any worker that is not busy may serve them.
ACCEPTED_BESIDE_OTHERS = 4

#: A worker compares itself with the others each time it has accepted so many connections.
WINDOW = 16

#: Connections are long-lived if the number of clients has grown by at least this part of those accepted in the last window.
STAYING = 0.75

#: A worker that has more clients than the average does not accept for so many seconds.
STAND_BACK = 0.005

#: Where connections are short, a worker that accepted fewer than another one does not accept for so many seconds. Then it accepts once, and
#: goes on as long as more connections wait than it accepts at once.
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
                 "_is_paused", "_left")  # fmt: skip

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
        self._is_paused = False  # between `pause` and `resume`
        self._left = 0  # pauses in a row because we have no room

    def accepted(self, count: int) -> None:
        """`count` connections were accepted in one call."""
        self._taken += count
        self._is_flooded = count >= self.max_accept
        self._counts.add_accepted(self._number, count)

    def pause(self) -> float:
        """For how many seconds the clients that wait are left to the other workers; 0: accept them. After that, `resume` is to be called."""
        seconds = self._pause()
        if seconds and not self._is_paused:
            self._counts.pause_socket(self._number)
            self._is_paused = True
        return seconds

    def resume(self) -> None:
        """The pause is over."""
        if self._is_paused:
            self._is_paused = False
            self._counts.resume_socket(self._number)
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
        others_accept = not self._counts.others_are_paused(self._number)
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
        """True if another worker has accepted more connections than this one in this window, at all sockets; `accepted`: by each worker."""
        in_window = [now - then for now, then in zip(accepted, self._accepted_then)]
        return max(in_window) > in_window[self._number]

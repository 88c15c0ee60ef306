"""Decides when one of several workers that share a listening socket leaves the waiting connections to the others.

The kernel wakes all workers for each connection, and the first one accepts it. Without this module one worker would get nearly all long-lived
connections, and short ones would wake all workers although one is enough (docs/decisions.md).
"""

from typing import Any

from gmproxy.system.descriptors import ACCEPTED_AT_ONCE

#: Maximum number of connections accepted at once while they are long-lived: small, so that the other workers get their part. While they are short
#: it is ACCEPTED_AT_ONCE: any worker that is not busy may serve them.
ACCEPTED_WITH_OTHERS = 4

#: Connections after which a worker compares itself with the others.
WINDOW = 16

#: Connections are long-lived if the number of clients has grown by at least this part of those that were accepted in the last window.
STAYING = 0.75

#: Seconds for which a worker that has more clients than the average does not accept.
FULLER_PAUSE = 0.005

#: Seconds for which a worker that accepted fewer short connections than another one does not accept. Then it accepts once, and goes on while more
#: connections wait than it accepts at once.
SPARE_PAUSE = 0.02

#: A worker without room leaves the clients to one that has room. After this many pauses of FULLER_PAUSE it accepts them, and rejects them: the other
#: worker may hang.
LEFT_TO_OTHERS = 100


class AcceptShare:
    """That of one worker, at one listening socket. Methods: loop callback or greenlet; none blocks.

    max_accept   maximum number of clients accepted at once
    """

    __slots__ = ("max_accept", "_context", "_counts", "_number", "_taken", "_clients_then", "_accepted_then", "_is_flooded", "_is_spare",
                 "_is_paused", "_left")  # fmt: skip

    def __init__(self, worker_context: Any) -> None:
        self.max_accept = ACCEPTED_WITH_OTHERS
        self._context = worker_context
        self._counts = worker_context.client_counts
        self._number = worker_context.number
        self._taken = WINDOW  # clients accepted in this window; the first window ends at once
        self._clients_then = -WINDOW  # clients of this worker when the window began
        self._accepted_then = self._counts.accepted()  # by each worker, at that time
        self._is_flooded = False  # more connections waited than were accepted at once
        self._is_spare = False  # the last window was left to another worker
        self._is_paused = False  # between `pause` and `resume`
        self._left = 0  # pauses in a row for want of room

    def accepted(self, count: int) -> None:
        """`count` connections were accepted in one call."""
        self._taken += count
        self._is_flooded = count >= self.max_accept
        self._counts.add_accepted(self._number, count)

    def pause(self) -> float:
        """Seconds for which the waiting clients are left to the other workers, after which `resume` must be called; 0: accept them."""
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
        if self._context.room() < ACCEPTED_WITH_OTHERS:
            if self._left < LEFT_TO_OTHERS and self._context.others_have_room(ACCEPTED_WITH_OTHERS):
                self._left += 1
                return FULLER_PAUSE
        self._left = 0
        if self._taken < (ACCEPTED_WITH_OTHERS if self._is_spare else WINDOW):
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
        self.max_accept = ACCEPTED_WITH_OTHERS if stay else ACCEPTED_AT_ONCE
        self._taken = 0
        self._clients_then = clients
        self._accepted_then = accepted
        return FULLER_PAUSE if stay else SPARE_PAUSE if self._is_spare else 0.0

    def _another_took_more(self, accepted: list[int]) -> bool:
        """True if another worker has accepted more connections than this one in this window, at all sockets. `accepted`: by each worker."""
        in_window = [now - then for now, then in zip(accepted, self._accepted_then)]
        has_more: bool = max(in_window) > in_window[self._number]
        return has_more
